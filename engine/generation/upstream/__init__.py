"""Language models that other servers run: OpenAI, Azure OpenAI, Anthropic, or anything that speaks OpenAI's
protocol."""
