"""The tests of Vireo, in folders that mirror the code."""
