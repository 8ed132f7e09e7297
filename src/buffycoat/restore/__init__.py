"""Noisy crops restored by Pix2Pix or a median filter, kept only where that helps."""
