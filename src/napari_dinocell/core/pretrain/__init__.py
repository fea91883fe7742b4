"""Self-supervised pre-training on multi-channel fields, after DINOv3, with channels as views.

Read in this order: `channels` and `strategies` (what a view shows), `crops`, `augment`, `views` and
`masks` (what the networks get), `heads`, `sinkhorn`, `teacher` (targets), `dino_loss`, `ibot_loss`,
`koleo_loss` (what is minimized), `schedules` (how all of it moves with the step).
"""
