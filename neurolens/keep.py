"""keep: what becomes of a layer's bits once all of its blocks are there.

`all` keeps them. With `none` a layer is analysed as soon as it is complete, and its bits are removed; with `sparse`
those of rarely active neurons stay, for browsing. What was counted waits in a file a layer beside the run until the
last layer is done; then results are written as `neurolens analyze` writes them. The order is file, then bits: whatever
moment a run is stopped at, each layer has its bits or its file.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from neurolens import NeurolensError
from neurolens.analyze import write_scans
from neurolens.location import Where
from neurolens.locks import join_logs, lock
from neurolens.parts import FROM_BITS, due, mark, marks, withdraw
from neurolens.scanner import Asked, Scanner, forget_layer, has_all_bits, load_scan, save_scan, scan_path
from neurolens.slots import fingerprint_run, remove_spool, shard_spools
from neurolens.store import Store

SPARSE = 0.01  # frequency up to which `sparse` keeps a neuron's bits: a 12th of what independent ones could take


class Keeper:
    """What is done with complete layers of a run that does not keep all bits. A context manager: it holds threads.

    Opened on a run that an earlier process left, it ends what that one began.
    """

    def __init__(self, store: Store, keep: str, say: Callable[[str], object], *, sparse: float = SPARSE) -> None:
        """`keep`: `sparse` or `none`; `sparse`: the greatest frequency of neurons whose bits stay."""
        self._store, self._keep, self._sparse = store, keep, sparse
        self._say, self._asked = say, Asked()
        self._scanner: Scanner | None = None

    def __enter__(self) -> Keeper:
        return self

    def __exit__(self, *_: object) -> None:
        if self._scanner is not None:
            self._scanner.__exit__(None, None, None)

    def recover(self) -> None:
        """End what was begun, and take back the marks of layers of which neither bits nor counts are there."""
        store, done = self._store, self._store.progress()
        wanted, again = done.copy(), []
        for row, layer in enumerate(store.layers):
            if done[row].all() and self._is_counted(layer):
                continue
            if has_all_bits(store, layer):
                scan_path(store.path, layer).unlink(missing_ok=True)  # damaged, or of bits that were taken back
                continue
            again.append(layer)
            wanted[row] = False
            self._say(f"layer {layer} has neither all of its bits nor what was counted of them; it is collected again")
        if not (wanted == done).all():
            store.unmark(wanted)
        for layer in again:  # now that no mark says that there is anything
            forget_layer(store, layer)
        for row, layer in enumerate(store.layers):
            if wanted[row].all():
                self.layer_complete(layer)

    def layer_complete(self, layer: int) -> None:
        """Count a layer whose bits are all there, if that is not done, and give up those that are not kept."""
        path = scan_path(self._store.path, layer)
        if not path.exists():
            save_scan(path, self._scanning().scan(layer), self._asked)
        if self._keep == "none":
            self._store.drop_bits(layer)
        elif not self._store.thinned(layer):
            rare = load_scan(path, self._asked).columns["frequency"] <= self._sparse
            self._store.thin_bits(layer, rare, {"frequency": self._sparse})

    def finish(self) -> None:
        """Write the results of all layers, mark them, and remove the files."""
        store = self._store
        paths = [scan_path(store.path, layer) for layer in store.layers]
        withdraw(store, FROM_BITS)  # of results that were damaged nothing stays
        write_scans(store, (load_scan(path, self._asked) for path in paths), self._scanning())
        for part, asked in self._asked.marks().items():
            mark(store, part, asked)
        remove_scans(store.path)

    def _is_counted(self, layer: int) -> bool:
        try:
            load_scan(scan_path(self._store.path, layer), self._asked)
        except NeurolensError:
            return False
        return True

    def _scanning(self) -> Scanner:
        if self._scanner is None:
            self._scanner = Scanner(self._store, FROM_BITS, self._asked)
        return self._scanner


def is_finished(store: Store) -> bool:
    """Whether all bits are collected and, in a run that does not keep them, what they say is written."""
    return bool(store.progress().all()) and (keeps(store) == "all" or set(due(store)) <= set(marks(store)))


def end_shards(path: Where, spools: Path | None, say: Callable[[str], object]) -> Store:
    """What is left to do once all shards of a run are done, by the one that ends last: bits are counted and dropped if
    they are not to be kept, logs become one, and what waited in the folder `spools` goes.

    Returns the run, which may lack other shards. Raises as Scanner, and IncompleteError if layers must be done again.
    """
    store = Store.open(path)
    marks = store.progress()
    if not marks.all():
        say(f"{path}: {int(marks.sum())} of {marks.size} blocks of layers are there; the rest is other shards'")
        return store
    with lock(path, wait=True):  # others have no more to write
        store = Store.open(path, write=True)
        store.clean()
        if not is_finished(store):
            with Keeper(store, keeps(store), say) as keeper:
                keeper.recover()
                store.require_complete()
                keeper.finish()
        remove_scans(path)
        for folder in shard_spools(path, spools):
            remove_spool(folder, fingerprint_run(store.attrs))
        join_logs(path)
    return Store.open(path)


def remove_scans(run: Where) -> None:
    """Remove the files of what was counted, which the results hold."""
    shutil.rmtree(scan_path(run, 0).parent, ignore_errors=True)


def keeps(store: Store) -> str:
    """Which bits a run keeps: `all`, `sparse` or `none`."""
    return str(store.attrs["keep_bitmaps"])
