# %% [markdown]
# # 3 · Detectors, and what they remove
#
# Some neurons answer to a handful of tokens and to nothing else (paper, §4). And in OPT, what such a neuron writes
# mostly *lowers* the score of the very token it has seen: it removes what is known by now.

# %%
import neurolens as nl

run = nl.open_demo("neurolens-demo/small.zarr")

# %% [markdown]
# ## Covering numbers
#
# How many different tokens does it take to account for 95% of a neuron's activations? Few for a detector, hundreds
# for a neuron that answers to context; the vocabulary has 1,024.

# %%
run.plot.covering()

# %% [markdown]
# ## Detectors
#
# A *token detector* is active on at least 95% of the occurrences of at most five tokens, and these account for 95% of
# its activations. An n-gram seen once passes such a rule by luck, so beside the paper's rule (`all`) stands a
# stricter one (`supported`): n-grams seen at least five times, neurons active at least a hundred times.

# %%
run.by_layer.overall.to_pandas()[["detectors", "covered"]]  # neurons; distinct n-grams of n tokens that have a detector

# %% [markdown]
# On so little text no trigram detector is well supported: do not read much into the others. Token detectors by layer,
# by the paper's rule (solid) and well supported (hollow):

# %%
run.plot.detectors()

# %% [markdown]
# ## What they do to their triggers
#
# A neuron that is active adds its *value vector* to the residual stream. Multiplied with the unembedding, that is a
# score for every token: what it promotes, and what it suppresses. These were chosen by rule, without a look at what
# they promote; triggers are set off.

# %%
run.plot.examples()

# %% [markdown]
# Of all detectors and positional neurons of a layer, by row:

# %%
run.updates(2)

# %% [markdown]
# In OPT more than 80% of the token detectors point away from their triggers. A share alone says nothing, though: how
# many neurons would, whatever they detect? Two nulls stand beside it: other neurons at the same triggers, and the
# same neurons at other tokens as frequent.

# %%
run.plot.suppression()

# %%
columns = ["detectors", "suppressing", "suppressing_low", "suppressing_high", "null_neurons", "null_tokens"]
run.by_layer.overall.to_pandas()[columns].xs(1, level="n").round(2)  # detectors; shares of them

# %% [markdown]
# Here fewer point away than either null has it, not more: nothing of what the paper sees in OPT shows in a model this
# small, this early in its training. Nor is the opposite shown: with so few detectors the intervals overlap.
#
# ## Which neurons
#
# All of it is in tables. Here, each token that has a well supported detector:

# %%
import pandas as pd

rows = []
for layer in run.store.layers:
    table = run.triggers(layer)  # columns (trigger,)
    detector = run.neurons["unigram_detector_supported"][layer][table["neuron"]]
    for i in (detector & (table["n"] == 1) & table["covered"]).nonzero()[0]:
        token = run.vocabulary.text(table["tokens"][i])
        rows.append((layer, table["neuron"][i], token, table["on"][i], table["total"][i], table["projection"][i]))
pd.DataFrame(rows, columns=["layer", "neuron", "token", "active on", "occurrences", "projection"])
