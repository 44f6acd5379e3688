"""The plots of an experiment: every model and task is on them, and the same figures give the same file."""

import json

from launch.experiment_plots import write_plots


def comparison(model, reference, mean):
    tasks = {name: {"mean": mean, "low": mean - 0.02, "high": mean + 0.02} for name in ("first", "second")}
    return {
        "model": model,
        "reference": reference,
        "tasks": tasks,
        "pooled_mean": mean,
        "pooled_low": mean - 0.01,
        "pooled_high": mean + 0.01,
    }


def test_plots_show_every_model_and_are_the_same_each_time(tmp_path):
    encoder = tmp_path / "domain-2000"
    encoder.mkdir()
    lines = [{"tokens": 1000 * step, "loss": 5 - step / 10} for step in range(12)]
    (encoder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    soup = tmp_path / "soup-2000"
    soup.mkdir()  # averaged, not trained
    curve = {model: {"100": {"mean": 0.5}, "all": {"mean": 0.7}} for model in ("adapted", "control")}
    summary = {
        "comparisons": [comparison("adapted", "control", 0.012)],
        "few_label_comparisons": {"100": [comparison("adapted", "control", 0.03)]},
        "learning_curves": {"first": curve, "second": curve},
    }

    def draw(name):
        return write_plots(tmp_path / name, encoders={"domain-2000": encoder, "soup-2000": soup}, summary=summary)

    plots = draw("one")
    assert [plot.name for plot in plots] == ["effects.svg", "losses.svg", "effects-100-rows.svg", "learning-curves.svg"]
    effects, losses, _, curves = (plot.read_text() for plot in plots)
    for name in ("adapted", "over control", "first", "second", "all tasks"):
        assert f"<!-- {name} -->" in effects
    assert "<!-- domain-2000 -->" in losses
    assert "<!-- soup-2000 -->" not in losses
    assert "<!-- control -->" in curves
    assert [plot.read_text() for plot in draw("two")] == [effects, losses, plots[2].read_text(), curves]


def test_nothing_to_show_gives_no_plot(tmp_path):
    summary = {"comparisons": [], "few_label_comparisons": {}, "learning_curves": {}}
    assert write_plots(tmp_path / "plots", encoders={}, summary=summary) == []
