"""Each row of docs/inputs.md has a test, by its number."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).resolve().parent
PAGE = TESTS.parent / "docs" / "inputs.md"

WIDGETS = "widgets/test_viewer_"
MATRIX = f"{WIDGETS}matrix.py::"
LAYERS = f"{WIDGETS}matrix_layers.py::test_"
LIFE = f"{WIDGETS}lifetime.py::test_"
SAME = f"{MATRIX}test_the_same_cells_whatever_holds_the_pixels"
STACKS = f"{MATRIX}test_stacks_of_any_order_give_the_cells_of_each_plane"
PLACES = f"{MATRIX}test_a_region_lies_where_the_layer_shows_it_and_has_its_cells"
SHAPES = f"{MATRIX}test_10_11_13_any_shape_gives_labels_of_that_shape"
COLORS = f"{MATRIX}test_14_15_color_gives_labels_of_two_dimensions_and_transparent_is_background"
UNITS = f"{LAYERS}33_34_a_pixel_has_a_size_where_its_own_axes_are_lengths"
REFUSED = f"{LAYERS}what_napari_shows_no_layer_of_needs_no_answer"
ODD = f"{LAYERS}50_51_odd_labels_are_measured_as_they_are_or_refused_in_a_sentence"
TIFF, IMAGES = "core/test_tiff.py::test_", "core/test_images.py::test_"
SEGMENT, WORKLIST = "core/test_segment.py::test_", "core/test_worklist.py::test_"

ROWS = {
    1: [SAME, f"{SEGMENT}the_image_is_not_changed"],
    2: [SAME],
    3: [SAME, f"{SEGMENT}images_of_every_dtype_are_segmented_alike"],
    4: [f"{MATRIX}test_4_bool_is_zero_and_one"],
    5: [REFUSED, f"{IMAGES}complex_pixels_are_refused"],
    6: [SAME, f"{TIFF}big_tiff_and_big_endian_are_read"],
    7: [f"{MATRIX}test_7_what_is_not_a_number_is_background_and_told"],
    8: [f"{MATRIX}test_8_a_constant_plane_has_no_cells"],
    9: [REFUSED, f"{IMAGES}empty_images_are_refused"],
    10: [SHAPES],
    11: [SHAPES],
    12: [
        f"{LAYERS}12_a_huge_plane_is_told_before_the_run_with_what_to_do",
        f"{WIDGETS}region.py::test_a_region_of_a_huge_image_reads_little_more_than_the_region",
    ],
    13: [SHAPES],
    14: [COLORS],
    15: [COLORS],
    16: [f"{MATRIX}test_16_three_values_per_pixel_are_asked_about_and_taken_as_said"],
    17: [STACKS, f"{SEGMENT}channels_are_chosen_by_number_and_all_are_measured"],
    18: [
        f"{WIDGETS}channels.py::test_18_layers_are_segmented_alone_or_together_and_measured_alone",
        f"{WIDGETS}channels.py::test_18_only_layers_of_the_same_size_and_place_are_offered",
    ],
    19: [
        STACKS,
        f"{MATRIX}test_19_only_the_wanted_plane",
        f"{WIDGETS}planes.py::test_19_the_wanted_planes_become_cells_in_their_place",
    ],
    20: [
        STACKS,
        f"{WIDGETS}linking.py::test_a_movie_becomes_tracks_in_a_new_layer_at_the_same_place",
    ],
    21: [STACKS],
    22: [STACKS],
    23: [
        f"{MATRIX}test_23_each_level_of_a_pyramid_covers_the_same_ground",
        f"{WIDGETS}region.py::test_the_level_of_a_pyramid_follows_the_size_of_the_cells",
    ],
    24: [SAME, f"{WIDGETS}reading.py::test_24_blocks_that_suit_planes_badly_are_told"],
    25: [f"{MATRIX}test_25_a_source_that_vanishes_is_one_sentence_with_its_place"],
    26: [f"{MATRIX}test_24_and_26_files_are_read_where_they_lie"],
    27: [f"{MATRIX}test_27_a_data_array_gives_its_cells_where_its_coordinates_are"],
    28: [SAME],
    29: [PLACES],
    30: [REFUSED],
    31: [
        PLACES,
        f"{WIDGETS}menus.py::test_31_areas_that_the_scale_alone_does_not_tell_are_told",
    ],
    32: [f"{WIDGETS}menus.py::test_32_an_object_in_space_has_its_volume_by_the_depth_of_a_plane"],
    33: [PLACES, UNITS],
    34: [UNITS],
    35: [f"{WIDGETS}inputs.py::test_labels_layers_are_not_offered_as_images"],
    36: ["core/test_raster.py::test_a_palette_becomes_color", f"{TIFF}a_palette_is_applied"],
    37: [
        f"{TIFF}of_a_pyramid_the_full_resolution_is_read",
        f"{TIFF}one_of_several_series_is_chosen_by_number_or_name",
        f"{TIFF}a_missing_codec_names_the_extra",
    ],
    38: [f"{SEGMENT}a_broken_file_does_not_stop_the_others"],
    39: [
        f"{WORKLIST}two_inputs_of_one_stem_are_refused_with_a_pattern_that_tells_them_apart",
        f"{SEGMENT}a_path_that_is_not_ascii_works",
        "core/test_writing.py::test_a_folder_without_write_permission_says_so",
    ],
    40: [f"{SEGMENT}finished_files_are_skipped_and_missing_kinds_are_made"],
    41: [f"{WIDGETS}segment.py::test_an_empty_viewer_says_what_to_do"],
    42: [PLACES],
    43: [f"{LIFE}the_result_is_named_after_the_image_as_it_is_called_at_the_end"],
    44: [f"{LIFE}a_deleted_image_still_gets_its_result_in_its_place"],
    45: [f"{LIFE}43_to_45_the_result_goes_while_another_run_is_under_way"],
    46: [f"{LIFE}46_an_image_that_changed_meanwhile_is_told"],
    47: [PLACES],
    48: [f"{WIDGETS}editing.py::test_painting_into_the_preview_is_moved_to_the_corrected_layer"],
    49: [
        f"{LAYERS}49_an_image_of_another_size_is_not_offered",
        "core/adapt/test_command.py::"
        "test_labels_of_another_size_or_kind_and_too_few_cells_are_refused",
    ],
    50: [ODD, "core/adapt/test_examples.py::test_what_does_not_fit_is_one_sentence"],
    51: [
        ODD,
        "core/adapt/test_examples.py::test_a_label_of_two_pixels_is_neither_cell_nor_background",
    ],
    52: [f"{LIFE}a_viewer_that_is_closed_ends_its_run_without_a_result"],
    53: [f"{LAYERS}53_napari_asks_about_a_running_job_by_a_name_that_tells_it"],
    54: [f"{LIFE}two_viewers_run_at_once_and_keep_their_cells_apart"],
    55: [f"{LIFE}55_one_layer_in_two_viewers_gets_its_result_in_the_one_that_ran"],
    56: [f"{LIFE}56_a_dock_that_is_closed_and_opened_again_keeps_its_state"],
    57: [f"{LIFE}cancel_stops_at_the_next_batch_and_is_no_error"],
    58: [
        f"{WIDGETS}device.py::test_58_where_not_even_one_tile_fits_the_cpu_is_offered",
        "core/test_segmenter.py::test_the_batch_is_halved_when_memory_runs_out_and_stays_so",
    ],
    59: [
        f"{LAYERS}59_a_damaged_model_is_one_sentence_and_others_can_be_chosen",
        "core/model/test_model_files.py::test_damaged_model_files_are_refused_in_one_sentence",
    ],
    60: [f"{LAYERS}60_files_are_alike_where_numbers_have_a_comma"],
}


def test_every_row_has_a_test_and_every_test_is_there() -> None:
    numbers = [int(n) for n in re.findall(r"^\| (\d+) \|", PAGE.read_text(), re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1)) == list(ROWS)
    there: dict[str, set[str]] = {}
    for row, tests in ROWS.items():
        for test in tests:
            file, name = test.split("::")
            if file not in there:
                tree = ast.parse((TESTS / file).read_text())
                there[file] = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
            assert name in there[file], f"row {row}: {test} is not there"
