"""What a quantized network costs by the papers' own counts: FixOPs and bytes.  Loads no torch."""
