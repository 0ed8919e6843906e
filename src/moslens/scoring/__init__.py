"""The product: a model folder, a picture in, a score and a quality map out."""
