# %% [markdown]
# # 4 · Positions
#
# Some neurons answer to *where* a token is, whatever it says (paper, §5). The measure is the mutual information of a
# neuron's bit and the position, in nats (0 to ln 2 = 0.69).

# %%
import neurolens as nl

run = nl.open_demo("neurolens-demo/small.zarr")
positions = run.positions
positions

# %% [markdown]
# ## What chance gives
#
# With few sequences every neuron seems to depend on the position: with *S* of them by about 1/(2*S*) nats. What
# chance gives is known exactly and taken off; a neuron is *positional* above 0.05 nats of the rest. Medians by layer,
# in nats:

# %%
neurons = run.neurons.to_pandas()
alive = neurons[~neurons["dead"]]
alive.groupby("layer")[["position_mi", "position_mi_corrected"]].median()

# %% [markdown]
# ## Types
#
# A neuron's curve is the share of sequences in which it is active, position by position. The paper sees four types in
# these curves; the rules that tell them apart here are in [docs/method.md](../docs/method.md).

# %%
run.plot.positional_types()

# %% [markdown]
# Positional neurons by layer and type: in OPT, too, they are in the first layers. *Oscillatory* ones, active in
# alternating stretches, come with long training: this model has none.

# %%
run.plot.positional()

# %% [markdown]
# ## One of them
#
# The one that depends most on the position. Its card has the curve, and the information with its interval and p.

# %%
table = positions.to_pandas()
clearest = table.sort_values("mi_corrected").iloc[-1]
run.neuron(int(clearest["layer"]), int(clearest["neuron"]))

# %% [markdown]
# ## Curves as numbers
#
# Is it the position, or the kind of text that stands there? `agreement` is the correlation of the curves of different
# labels, 1 if all kinds of text have the same curve; `stability` the share of resampled corpora in which the type is
# the same.

# %%
table[["mi_corrected", "mi_low", "mi_high", "agreement", "stability"]].describe().loc[["min", "50%", "max"]]

# %%
positions.frequency.shape  # (row, position): share of sequences, for whatever else you want to know of the curves
