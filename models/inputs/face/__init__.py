"""Where faces are in the frames of a clip, whose each is, and upright square crops of them."""
