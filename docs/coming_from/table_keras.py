import keras
from keras import layers
from samples import patients

(x, y), (valid_x, valid_y), (test_x, test_y) = patients()
scale = layers.Normalization()
scale.adapt(x.numpy())
mean, std = y.mean(), y.std(correction=0)
model = keras.Sequential([keras.Input((10,)), scale, layers.Dense(32, "relu"), layers.Dense(1)])
model.compile(optimizer=keras.optimizers.AdamW(0.003), loss="mse", metrics=["mae"])
stopping = keras.callbacks.EarlyStopping("val_loss", patience=10, restore_best_weights=True)
valid = (valid_x, (valid_y - mean) / std)
model.fit(x, (y - mean) / std, epochs=200, batch_size=32, validation_data=valid, callbacks=[stopping])
error = model.evaluate(test_x, (test_y - mean) / std, return_dict=True)["mae"]
print(f"best epoch {stopping.best_epoch}; test error {error * std.item():.1f}")
