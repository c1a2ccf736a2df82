"""Where pictures come from: folders, published sets, synthesised rain, and the pipeline that cuts crops from them."""
