# %% [markdown]
# # 2 · Dead, and how certain
#
# A neuron is *dead* if it is active on no token of the text (paper, §3). That is a statement about a text: another
# one, or more of it, may wake it. So beside every count of dead neurons stands how certain it is.

# %%
import neurolens as nl
from neurolens.activity import dead_upper_bound

run = nl.open_demo("neurolens-demo/small.zarr")

# %% [markdown]
# ## How many
#
# Share of each layer's neurons that are dead, with 95% intervals over groups of sequences. In the paper's OPT models,
# too, it is the first half of the layers that is sparse; that layer 0 has none here is this model's own.

# %%
run.neurons.activity.to_pandas()[["dead", "dead_low", "dead_high"]]

# %%
run.plot.dead()

# %% [markdown]
# A few neurons are active only on `</s>`, which begins every sequence. They are not dead, and not alive on any text.

# %%
run.neurons["dead_but_bos"].sum(axis=1)  # neurons, by layer

# %% [markdown]
# ## How certain: one neuron
#
# Silent on *n* independent tokens means, with 95% confidence, a frequency below 3/*n*. A neuron that is active more
# rarely than that may well be alive.

# %%
bound = dead_upper_bound(run.store.n_tokens)
print(f"silent on {run.store.n_tokens:,} tokens: active on less than 1 token in {1 / bound:,.0f}")

# %% [markdown]
# ## How certain: all of them
#
# Neurons seen alive against tokens read (log scale). Where a curve still rises, more text would wake more neurons.

# %%
run.plot.saturation()

# %% [markdown]
# The same in numbers. Had we read half as much, these many more would have counted as dead:

# %%
first_active = run.neurons["first_active"]  # index of the first token a neuron is active on, −1 for none
half = run.store.n_tokens // 2
print("dead on half of the text:", ((first_active < 0) | (first_active >= half)).sum(axis=1), "neurons, by layer")
print("dead on all of it:       ", run.neurons["dead"].sum(axis=1))

# %% [markdown]
# How many would wake with as much text again? A neuron seen once could as easily have been missed, so the number of
# those says about how many were (Good 1953): to first order as many wake as were active exactly once, less those that
# were active exactly twice, and so on (Good and Toulmin 1956). Tokens are taken as independent, which they are not:
# an order of magnitude, no more.

# %%
import numpy as np

on = run.neurons["activations"]
for layer in run.store.layers:
    seen = np.bincount(on[layer])[1:21]  # neurons active once, twice, … 20 times
    wake = max(0, seen @ (-1.0) ** np.arange(len(seen)))
    print(f"layer {layer}: {(on[layer] == 0).sum():,} dead, {seen[:1].sum()} active once, about {wake:.0f} would wake")

# %% [markdown]
# Few: most of what is dead here stays so, on text of this kind. `neurolens demo` reads eight times as much and finds
# nearly as many. In OPT-66b, the paper says, more than 70% of some layers are dead on 20 million tokens.
#
# ## Dead where?
#
# Silent on one kind of text alone is not dead but specialised. Left: neurons that are active on one kind and on no
# other; middle: those that are active on all kinds but one; right: how much the kind of text says about a neuron, in
# nats.

# %%
run.plot.contrast()
