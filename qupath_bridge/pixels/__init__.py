"""Functions on RGB pixels: uint8 (H, W, 3) in and out."""
