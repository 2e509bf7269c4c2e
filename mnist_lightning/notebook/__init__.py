"""The project in a notebook's cell or a script: what the commands do, as functions whose results show themselves.

    import mnist_lightning as ml

    run = ml.run(ml.compose("model=net3", "trainer.max_epochs=3"))
    run.verdict, run.epochs, run.curves(), run.mistakes()
    ml.load(run).predict("photo.jpg")
    ml.sweep("optimizer.lr=0.01,0.02", "seed=0,1").table

Words are those of the command line. torch and lightning are imported by what uses them.
"""
