"""The collectives that are read from a compiled program's text."""

import pytest

from alexnet_jax.plan.hlo import read_transfers

# Eight devices. A combined all-reduce of six arrays, an asynchronous all-gather of two (the start's
# type tells operands and results), a plain reduce-scatter, an asynchronous one wrapped in a
# computation, a permutation, groups in the counted form and in none, and a decoy in a name.
HLO = """\
HloModule jit_step, is_scheduled=true, entry_computation_layout={()->f32[]}, num_partitions=8

%wrapped (p: f32[16,8]) -> f32[4,8] {
  %p = f32[16,8]{1,0} parameter(0)
  ROOT %rs.2 = f32[4,8]{1,0} reduce-scatter(%p), channel_id=4, replica_groups=[2,4]<=[8], \
dimensions={0}, to_apply=%add
}

ENTRY %main () -> f32[] {
  %all-reduce.6 = (f32[3]{0}, f32[11,11,3,3]{3,2,1,0}, bf16[4]{0}, f32[], f32[2]{0}, \
/*index=5*/f32[5]{0}) all-reduce(%a, %b, %c, %d, %e, /*index=5*/%f), channel_id=1, \
replica_groups={{0,2},{1,3},{4,6},{5,7}}, to_apply=%add, metadata={op_name="jit(step)/psum"}
  %ag = ((f32[4,8]{1,0}, s32[2]{0}), (f32[16,8]{1,0}, s32[8]{0})) all-gather-start(%g, %h), \
channel_id=2, replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}, metadata={op_name="gather"}
  %done = (f32[16,8]{1,0}, s32[8]{0}) all-gather-done(((f32[4,8]{1,0}, s32[2]{0}), \
(f32[16,8]{1,0}, s32[8]{0})) %ag)
  %rs.1 = f32[32,128]{0,1:T(8,128)} reduce-scatter(%i), replica_groups={{0,1},{2,3},{4,5},{6,7}}, \
dimensions={1}, to_apply=%add
  %async = ((f32[16,8]), f32[4,8]) async-start(%j), calls=%wrapped
  %async-done = f32[4,8]{1,0} async-done(%async)
  %cp = f32[10]{0} collective-permute(%k), source_target_pairs={{0,1},{1,0}}
  %ar.1 = f32[8]{0} all-reduce-start(%l), replica_groups={}, to_apply=%add
  %ar.2 = f32[8]{0} all-reduce-done(%ar.1)
  ROOT %add.1 = f32[] add(%d, %d), metadata={op_name="of = f32[9] all-reduce(%x)"}
}
"""


def test_reads_tuples_and_asynchronous_pairs():
    """Bytes on the wire, counted by hand."""
    assert [(x.kind, x.group, x.shape, x.wire_bytes) for x in read_transfers(HLO)] == [
        ("reduce-scatter", 4, (16, 8), 16 * 8 * 4 * 3 / 4),
        ("all-reduce", 2, (3,), 12),
        ("all-reduce", 2, (11, 11, 3, 3), 4356),
        ("all-reduce", 2, (4,), 8),  # bfloat16
        ("all-reduce", 2, (), 4),
        ("all-reduce", 2, (2,), 8),
        ("all-reduce", 2, (5,), 20),
        ("all-gather", 4, (16, 8), 384),
        ("all-gather", 4, (8,), 24),
        ("reduce-scatter", 2, (32, 256), 32 * 256 * 4 / 2),
        ("collective-permute", 2, (10,), 40),
        ("all-reduce", 8, (8,), 56),
    ]


def test_instructions_keep_their_names():
    found = read_transfers(HLO)
    assert {x.what for x in found if x.kind == "all-gather"} == {"gather"}
    assert len({x.name for x in found}) == 6


@pytest.mark.parametrize(
    ("axes", "group"), [("'tower'", 2), ("'data'", 4), ("'data','tower'", 8), ("'tower','data'", 8)]
)
def test_groups_may_be_named_by_the_axes_of_a_mesh(axes, group):
    """As jaxlib 0.12 writes them."""
    groups = f"replica_groups=mesh['data'=4,'tower'=2] {{{axes}}}"
    (found,) = read_transfers(f"  %x = f32[16]{{0}} all-reduce(%y), {groups}, to_apply=%add\n")
    assert found.group == group
    assert found.wire_bytes == 2 * 16 * 4 * (group - 1) / group


@pytest.mark.parametrize(
    "rest",
    [
        "replica_groups=?, dimensions={0}",
        "replica_groups={{0,1}}, to_apply=%add",
        "replica_groups=mesh['data'=4] {'data':(2)2}, dimensions={0}",
    ],
)
def test_an_unknown_form_is_not_passed_over(rest):
    with pytest.raises(ValueError, match=r"unknown form|without its dimension"):
        read_transfers(f"  %x = f32[4]{{0}} reduce-scatter(%y), {rest}\n")
