"""Cost: what is counted for a training is what its record says."""

from hypothesis import given
from hypothesis import strategies as st
from small_runs import small

from mlplib.models import count_macs, count_parameters, meta_model
from mlplib.specs import NORMS, DataSpec, ModelSpec
from mlpstudy import cost
from mlpstudy.planning import training_flops


def test_compute_is_three_forward_passes_for_each_image_seen():
    spec = small(model=ModelSpec.parse("B-2/Wi-32"), data=DataSpec("shapes-16", examples=250), epochs=4)
    # 16 x 16 x 3 pixels to 32, twice 32 to 128 to 32, and a head of ten classes; whole batches: 192 images.
    forward = 768 * 32 + 2 * (2 * 32 * 128) + 32 * 10
    assert cost.model_size(spec).forward_macs == forward
    assert cost.training_macs(spec) == 3 * forward * 192 * 4
    assert cost.training_macs(spec, epoch=1) == cost.training_macs(spec) / 4
    assert 2 * cost.training_macs(spec) == training_flops(spec)


SIZES = st.integers(1, 9)


@given(
    model=st.builds(
        ModelSpec,
        family=st.just("b-mlp"),
        depth=SIZES,
        width=SIZES,
        expansion=SIZES,
        norm=st.sampled_from(NORMS),
        skip=st.booleans(),
    )
    | st.builds(ModelSpec, family=st.just("s-mlp"), depth=SIZES, width=SIZES, norm=st.sampled_from(NORMS)),
    side=SIZES,
)
def test_the_formula_counts_what_the_network_has(model, side):
    data = DataSpec("shapes-16", resolution=side)
    network, shape = meta_model(model, (side, side, 3), 10), (side, side, 3)
    assert cost.network_size(model, data) == cost.ModelSize(
        count_parameters(network), count_macs(network, shape)
    )


def test_images_are_counted_as_they_are_trained_on():
    assert cost.training_images(small(data=DataSpec("shapes-16"))) == 2000
    assert cost.training_images(small(data=DataSpec("shapes-16", held_out=200))) == 1800
    assert cost.images_per_epoch(small(data=DataSpec("shapes-16"), batch_size=300)) == 1800
    enlarged = small(data=DataSpec("shapes-16", resolution=32))
    assert cost.model_size(enlarged).parameters > cost.model_size(small()).parameters


def test_a_real_record_has_the_same_compute(tmp_path):
    from mlplib.executor import Executor
    from mlplib.store import RunStore

    record = Executor(RunStore(tmp_path)).record(small(epochs=1))
    size = cost.model_size(record.spec)
    counted = {"parameters": size.parameters, "forward_macs": size.forward_macs}
    counted["training_macs"] = cost.training_macs(record.spec)
    assert {name: record.compute[name] for name in counted} == counted
