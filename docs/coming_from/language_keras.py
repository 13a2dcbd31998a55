import keras
from keras import layers
from samples import texts

train, valid = ((ids[:, :-1], ids[:, 1:], (ids[:, 1:] != 0).float()) for ids in texts())
model = keras.Sequential([layers.Embedding(13, 32), layers.GRU(64, return_sequences=True), layers.Dense(13)])
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
a_token = keras.metrics.SparseCategoricalCrossentropy("token", from_logits=True)
model.compile(optimizer=keras.optimizers.Adam(0.01, global_clipnorm=1.0), loss=loss, weighted_metrics=[a_token])
history = model.fit(*train[:2], sample_weight=train[2], epochs=10, batch_size=32, validation_data=valid)
print(f"valid loss a token {history.history['val_token'][-1]:.3f}")
