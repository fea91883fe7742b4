"""Fields of many channels for pre-training: from a bucket or a folder, in a reproducible order.

`manifest` lists the fields, `order` says which of them a step sees, `fetch` gets and checks their
planes, `stream` puts these together.
"""
