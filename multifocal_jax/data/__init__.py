"""Data: folders, published sets, synthesised rain, and the pipeline that cuts crops from pictures."""
