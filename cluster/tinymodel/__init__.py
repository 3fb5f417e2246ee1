"""The tiny gpt-oss checkpoint: a real GptOssForCausalLM for machines without a GPU."""
