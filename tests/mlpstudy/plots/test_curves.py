"""Accuracy during training: means, bands over seeds, and colors."""

from plot_frames import curve_frame

from mlpstudy.plots import curves, look


def test_lines_are_means_and_bands_span_the_seeds():
    one, several = (curves.accuracy_curves(curve_frame(seeds)) for seeds in ((0,), (0, 2)))
    means = [list(line.get_ydata()) for line in several.axes[0].lines]
    assert means == [[11, 21, 31]] * 4, "two models, test and training"
    assert [line.is_dashed() for line in several.axes[0].lines] == [False, True] * 2
    band = several.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (10, 32)
    assert not any(len(band.get_paths()) for band in one.axes[0].collections), "one seed has no band"


def test_a_data_set_has_its_row_of_panels_and_a_model_its_color():
    figure = curves.accuracy_curves(curve_frame(datasets=("CIFAR-10", "CIFAR-100")))
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        f"{data}, {da}" for data in ("CIFAR-10", "CIFAR-100") for da in ("without DA", "with DA")
    ]
    only_b = curve_frame().query("model == 'B-MLP'")
    for drawn in (figure, curves.accuracy_curves(only_b)):
        labels = {text.get_text() for text in drawn.legends[0].get_texts()}
        handle = next(h for h in drawn.legends[0].legend_handles if h.get_label() == "B-MLP")
        assert handle.get_color() == look.KNOWN_COLORS["B-MLP"]
        assert {"B-MLP", "test", "train"} <= labels


def test_a_curve_of_one_or_two_points_has_dots():
    marks = {line.get_marker() for line in curves.accuracy_curves(curve_frame(epochs=(1, 2))).axes[0].lines}
    assert "o" in marks
    marks = {line.get_marker() for line in curves.accuracy_curves(curve_frame()).axes[0].lines}
    assert "o" not in marks
