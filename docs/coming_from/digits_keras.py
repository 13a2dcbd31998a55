import keras
from keras import layers
from samples import digits

keras.config.set_image_data_format("channels_first")
train, valid, test = digits()
model = keras.Sequential(
    [
        *(keras.Input((1, 8, 8)), layers.Conv2D(16, 3, padding="same", activation="relu"), layers.MaxPooling2D()),
        *(layers.Conv2D(32, 3, padding="same", activation="relu"), layers.Flatten(), layers.Dense(10)),
    ]
)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(optimizer=keras.optimizers.Adam(0.003), loss=loss, metrics=["accuracy"])
stopping = keras.callbacks.EarlyStopping("val_loss", patience=3, restore_best_weights=True)
model.fit(*train, epochs=15, batch_size=32, validation_data=valid, callbacks=[stopping])
print(f"test accuracy {model.evaluate(*test, return_dict=True)['accuracy']:.3f}")
