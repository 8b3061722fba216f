# %% [markdown]
# # 1 · First look
#
# neurolens runs text through an OPT model and records **one bit per FFN neuron and token**: is the neuron's output,
# after the ReLU, above 0? All that follows is derived from these bits, after *Neurons in Large Language Models: Dead,
# N-gram, Positional* ([arXiv 2309.04827](https://arxiv.org/abs/2309.04827)).
#
# The model here is tiny: 4 layers of 4,096 neurons, trained for 750 steps on text that every Python has. It shows
# what can be asked and what answers look like. What it answers holds for itself, not for OPT; the
# [README](../README.md) says where the two differ.

# %%
import neurolens as nl

run = nl.open_demo("neurolens-demo/small.zarr", say=print)  # half a minute; there already, it is opened
run

# %% [markdown]
# The model has not seen this text: 49,152 tokens, a third each of code, prose and arithmetic. The lines above say
# what was read and what it was going to take.
#
# ## A row a neuron
#
# `frequency` is the share of tokens a neuron is active on, `unigrams_95` how many different tokens account for 95% of
# its activations, `position_mi_corrected` what the position says about it, in nats.
# [docs/method.md](../docs/method.md) has every column with its formula, unit and range.

# %%
neurons = run.neurons.to_pandas()
neurons[["activations", "frequency", "dead", "unigrams_95", "unigram_detector", "position_mi_corrected"]]

# %%
neurons.groupby("layer")[["dead", "unigram_detector", "bigram_detector", "positional"]].sum()  # neurons

# %% [markdown]
# How often are the neurons of a layer active that are active at all? The first layer is dense, the others are sparse.

# %%
run.plot.frequency()

# %% [markdown]
# ## One neuron
#
# A card has all that is known of a neuron: how often it is active, what it is and why, the n-grams it is active on,
# places in the text, and the tokens it promotes and suppresses. This one is a *token detector*.

# %%
example = max(run.examples().examples, key=lambda each: (len(each.triggers), each.activations))
card = run.neuron(example.layer, example.neuron)
card

# %% [markdown]
# The card shows a few contexts. You can ask for more: a random sample, those of one kind of text, or all of them.

# %%
card.contexts(label="math", sample=5)

# %%
len(card.contexts(all=True))  # each is decoded when it is looked at; `.to_pandas()` has a row for each

# %% [markdown]
# ## The bits themselves
#
# They are kept. This neuron is active on these tokens, so many times each:

# %%
from collections import Counter

bits = run.active(example.layer, example.neuron)  # bool (sequence, position)
tokens = run.store.corpus().tokens  # int (sequence, position), the token ids
Counter(run.vocabulary.token(token) for token in tokens[bits]).most_common(5)

# %% [markdown]
# ## Your model, your text
#
# ```python
# from neurolens.analyze import analyze_run
# from neurolens.collect import collect
# from neurolens.data import DataSpec
#
# collect("facebook/opt-125m", DataSpec(("wiki.jsonl.zst", "code/"), tokens=5_000_000), "opt-125m.zarr", say=print)
# analyze_run("opt-125m.zarr", say=print)
# run = nl.open("opt-125m.zarr")
# ```
#
# or `neurolens collect` and `neurolens analyze` on the command line. Stopped at any time, the same command goes on
# where it was. Models larger than memory are read layer by layer.
