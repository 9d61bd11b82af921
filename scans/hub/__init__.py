"""Model hubs that speak like Hugging Face's: corpora, packs and networks by ``hf://`` addresses."""
