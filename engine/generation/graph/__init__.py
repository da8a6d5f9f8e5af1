"""Graphs, and whatever else is called as a model, as language models: text, vectors and scores in the words of the OpenAI API."""
