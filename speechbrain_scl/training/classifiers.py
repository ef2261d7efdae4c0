"""A classifier with several centres for each speaker."""

import torch

from speechbrain_scl.attention import class_cosines


class SubCentreClassifier(torch.nn.Module):
    """Cosines to the nearest of several centres of each class.

    With c_{kj} centre j of class k and f the embedding, all of unit length,

        output_k = max_j f . c_{kj}

    so that wrongly labelled or unusual utterances of a speaker gather at a
    centre of their own (Deng et al., "Sub-center ArcFace", ECCV 2020). It
    takes the place of SpeechBrain's ``Classifier`` before its
    ``AdditiveAngularMargin``.

    Arguments
    ---------
    input_size : int
        D, the embedding's dimension.
    out_neurons : int
        C, the number of classes.
    n_centres : int
        K, of each class.

    Raises
    ------
    ValueError
        Less than one centre.

    Example
    -------
    >>> classifier = SubCentreClassifier(4, out_neurons=3, n_centres=2)
    >>> classifier.weight.shape
    torch.Size([3, 2, 4])
    >>> classifier(torch.randn(5, 1, 4)).shape
    torch.Size([5, 1, 3])
    """

    def __init__(self, input_size, out_neurons, n_centres=3):
        super().__init__()
        if n_centres < 1:
            raise ValueError(f"n_centres={n_centres}: at least 1")
        self.weight = torch.nn.Parameter(
            torch.empty(out_neurons, n_centres, input_size)
        )
        torch.nn.init.xavier_uniform_(self.weight.view(-1, input_size))

    def forward(self, embeddings):
        """The cosines.

        Arguments
        ---------
        embeddings : torch.Tensor
            [N, D] or [N, 1, D], any scale.

        Returns
        -------
        torch.Tensor
            [N, 1, C].
        """
        return class_cosines(embeddings.flatten(1), self.weight)[:, None]
