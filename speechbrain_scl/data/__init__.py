"""From folders of recordings to manifests that SpeechBrain reads."""
