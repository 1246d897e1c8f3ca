"""
Sets larger than memory: shards, each a tar in WebDataset's format or a Parquet file, read block by block.

A block is what is read at once: neighbouring samples of a tar, about a megabyte, or a row group. `index` knows all
blocks of a set, `ordering` deals an epoch's samples so that few blocks are in use at a time, and `dataset` holds these.
`sources` reads bytes of local files, over HTTP or by fsspec; `tars`, `parquet` and `decoding` make samples of them;
`writing` makes such sets. `opening` is what a name `shards:PATH` leads to.
"""
