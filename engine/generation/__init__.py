"""Language models: what they are asked, what they answer, and how they are loaded, swapped, drained and restarted."""
