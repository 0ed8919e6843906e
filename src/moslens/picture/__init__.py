"""From a file to upright sRGB pixels: formats, limits, colour, the working size, windows and the block grid."""
