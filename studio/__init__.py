"""The local page over everything: corpus, training, evaluation, benchmark, audits, fill-mask, classify, chat."""
