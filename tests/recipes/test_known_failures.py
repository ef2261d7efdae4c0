"""What once went wrong, and the test that keeps each of them from it."""

import ast

import pytest
from commands import ROOT

# What SpeechBrain's VoxCeleb recipe (1.1.2) gets wrong without a word
SILENT = {
    "a new pretrain_path keeps scoring the old model": """
        recipes/test_silent_errors.py
        test_another_model_in_the_same_folders_gives_other_scores""",
    "NaN scores give EER 0": """
        evaluation/test_metrics.py
        test_silent_errors_of_the_stock_recipe_are_refused""",
    "a list of one class gives minDCF NaN": """
        evaluation/test_metrics.py
        test_silent_errors_of_the_stock_recipe_are_refused""",
    "the label 0.9 becomes 0": """
        evaluation/test_trials.py test_mistakes_are_named""",
    "a misspelt score_norm returns raw scores": """
        recipes/test_verification.py test_a_wrong_option_is_told""",
    "a new trial list leaves the old manifests": """
        recipes/test_voxceleb_prepare.py
        test_it_is_redone_when_and_only_when_something_changed""",
    "speakers of the test column alone get into training": """
        recipes/test_voxceleb_prepare.py
        test_splits_are_disjoint_and_complete""",
    "another /wav/ in a path gives a wrong speaker": """
        recipes/test_silent_errors.py
        test_a_speaker_is_below_the_corpus_own_wav""",
    "quiet, short and stereo files are dropped uncounted": """
        recipes/test_voxceleb_prepare.py
        test_bad_files_are_left_out_with_a_reason""",
    "8 kHz is read as 16 kHz": """
        recipes/test_silent_errors.py test_a_wrong_sample_rate_is_refused""",
    "the split depends on the file system's order": """
        recipes/test_silent_errors.py test_files_come_in_one_order""",
    "the batch size changes the scores": """
        evaluation/test_embeddings.py test_the_batch_does_not_matter""",
    "minDCF is printed times 100": """
        recipes/test_silent_errors.py
        test_min_dcf_of_refusing_everybody_is_one""",
    "validation uses random crops": """
        recipes/test_silent_errors.py
        test_validation_hears_the_same_in_every_epoch""",
    "verification stays on the CPU without --device": """
        recipes/test_silent_errors.py test_a_gpu_is_used_where_there_is_one""",
}
# What ends with a traceback there
LOUD = {
    "a README names files that are missing": """
        recipes/test_documents.py test_the_commands_run""",
    "a failed download leaves a folder that breaks the next run": """
        data/test_download.py test_a_failure_leaves_nothing""",
    'an override is split at every "=" of a URL': """
        command_line/test_experiment.py test_overrides""",
    "pretrain_path is another folder than the comment says": """
        recipes/test_silent_errors.py
        test_a_folder_that_is_no_inference_folder_is_told""",
    "a cohort smaller than asked for": """
        evaluation/test_scoring.py test_mistakes""",
    "an utterance shorter than the crop": """
        command_line/test_experiment.py test_crops""",
    "a blank line or a tab in the trial list": """
        evaluation/test_trials.py test_layouts""",
    "comma-separated data folders": """
        recipes/test_silent_errors.py test_comma_separated_data_folders""",
}
# What went wrong in this package, mostly without a word
OURS = {
    "a gradient that autograd shares is overwritten in place": """
        test_gathered_options.py
        test_the_gradient_of_what_was_gathered_is_left_as_it_was""",
    "attention rescaled by each process for itself": """
        test_gathered_options.py test_every_option_gives_the_joined_batch""",
    "half a cache of embeddings": """
        evaluation/test_store.py
        test_a_truncated_cache_is_made_anew_with_a_word""",
    "a cache with a flipped bit": """
        evaluation/test_store.py
        test_no_flipped_bit_is_a_traceback_or_another_embedding""",
    "a cache of other sizes, or with NaN": """
        evaluation/test_store.py test_a_foreign_cache_is_made_anew""",
    "cached embeddings of two dimensions": """
        evaluation/test_embeddings.py
        test_cached_embeddings_of_two_dimensions_are_made_anew""",
    "no metrics.json where a picture fails": """
        recipes/test_silent_errors.py
        test_the_figures_come_before_the_pictures""",
    "a list's name is read as a formula, or not shown": """
        evaluation/test_plots.py test_any_name_of_a_list_is_shown""",
    "neither the old model nor the new one": """
        test_files.py test_a_kill_loses_nothing""",
    "a linked folder cannot be replaced": """
        test_files.py test_a_folder_is_replaced_through_a_link""",
    "files for everybody whatever the umask": """
        test_files.py test_permissions_are_those_of_other_files""",
    "a second run in the folder deletes the first one's checkpoint": """
        test_files.py
        test_a_second_run_is_refused_and_a_killed_one_does_not_block""",
    "the EER of the convex hull, lower than everybody's": """
        evaluation/test_metrics.py
        test_eer_is_where_the_roc_of_scikit_learn_meets_the_diagonal""",
    "swapped labels look like chance": """
        recipes/test_silent_errors.py test_swapped_labels_are_pointed_out""",
    "one crop twice in a batch": """
        training/test_data.py test_an_utterance_twice_in_a_batch_is_two_crops""",
    "TF32 blurs the angle between positives": """
        test_losses.py
        test_close_positives_keep_their_gradient_under_tf32""",
    '"no objective rises" where the balance is not taken': """
        test_balancing.py test_no_objective_rises_where_the_balance_is_taken""",
    "a classifier in bf16 that is said to be in float32": """
        test_brain.py test_all_from_the_embedding_on_is_float32""",
    "a gradient computed where none is wanted": """
        test_losses.py test_without_a_gradient_none_is_computed""",
    "a weight of exactly 0 gives NaN": """
        test_losses.py test_a_weight_of_zero_is_the_limit_of_small_ones""",
    "a second derivative is refused for another reason": """
        test_losses.py test_a_second_derivative_is_refused""",
    "labels that are bool, or no tensor": """
        test_losses.py test_batches_that_do_not_fit_are_refused""",
    "the attention of an empty batch": """
        test_attention.py test_an_empty_batch_has_no_attention""",
    "an archive without end": """
        data/test_download.py
        test_archives_that_grow_beyond_recordings_are_refused""",
    "a mean of enrolments that no text defines": """
        evaluation/test_embeddings.py
        test_each_utterance_of_an_enrolment_has_one_vote""",
    "a decision that no score can change": """
        evaluation/test_calibration.py
        test_a_decision_knows_the_error_rates_of_its_threshold""",
    "a report silent on a decision that is never taken": """
        evaluation/test_pages.py
        test_a_decision_that_is_never_taken_is_told""",
    "the calibration of another model": """
        evaluation/test_calibration.py
        test_the_calibration_of_another_model_is_refused""",
    "error rates of a decision that were not counted": """
        evaluation/test_calibration.py
        test_small_error_rates_are_counted_not_drawn_in_a_line""",
    "an interval of two speakers": """
        recipes/test_silent_errors.py
        test_too_few_speakers_have_no_interval""",
    "a model card that tells of another training": """
        release/test_hub.py test_the_card_of_plain_classification_says_so""",
    "a table of a spreadsheet is a traceback": """
        data/test_tables.py test_any_usual_encoding_and_separator""",
    "Kaldi's tabs and segments are misread, its ids lost": """
        data/test_own.py test_kaldi_segments_and_the_users_own_trials""",
    "a remedy that cannot be pasted": """
        data/test_audio.py test_the_remedy_can_be_pasted""",
    "a message names a list that is deleted by then": """
        data/test_own.py test_what_is_of_no_use_is_named""",
    "one's own m4a recordings are refused": """
        data/test_conversion.py
        test_formats_of_the_verifier_are_converted_too""",
    "half a recording is taken for a whole one": """
        test_verifier.py test_a_recording_that_is_cut_off_is_said""",
}


@pytest.mark.parametrize("failure", [*SILENT, *LOUD, *OURS])
def test_a_test_keeps_it_away(failure):
    path, name = {**SILENT, **LOUD, **OURS}[failure].split()
    text = (ROOT / "tests" / path).read_text(encoding="utf-8")
    found = (x.name for x in ast.parse(text).body if hasattr(x, "name"))
    assert name in found
