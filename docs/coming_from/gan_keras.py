import keras
import torch
from keras import layers
from samples import ring
from torch.nn.functional import softplus


class Pair(keras.Model):
    def __init__(self):
        super().__init__()
        self.generator = keras.Sequential([keras.Input((8,)), layers.Dense(64, "relu"), layers.Dense(64, "relu"), layers.Dense(2)])
        self.critic = keras.Sequential(
            [keras.Input((2,)), layers.Dense(64), layers.LeakyReLU(0.2), layers.Dense(64), layers.LeakyReLU(0.2), layers.Dense(1)]
        )
        self.judged, self.made = keras.metrics.Mean("critic"), keras.metrics.Mean("generator")
        self.built = True

    def compile(self, critic_optimizer, generator_optimizer):
        super().compile()
        self.critic_optimizer, self.generator_optimizer = critic_optimizer, generator_optimizer

    @property
    def metrics(self):
        return [self.judged, self.made]

    def step(self, loss, part, optimizer):
        self.zero_grad()
        loss.backward()
        gradients = [weight.value.grad for weight in part.trainable_weights]
        with torch.no_grad():
            optimizer.apply(gradients, part.trainable_weights)

    def train_step(self, real):
        (real,) = real if isinstance(real, tuple) else (real,)
        fake = self.generator(torch.randn(len(real), 8))
        judged = softplus(-self.critic(real)).mean() + softplus(self.critic(fake.detach())).mean()
        self.step(judged, self.critic, self.critic_optimizer)
        made = softplus(-self.critic(fake)).mean()
        self.step(made, self.generator, self.generator_optimizer)
        self.judged.update_state(judged.detach())
        self.made.update_state(made.detach())
        return {metric.name: metric.result() for metric in self.metrics}


model = Pair()
model.compile(keras.optimizers.Adam(0.002, 0.5, 0.99), keras.optimizers.Adam(0.001, 0.5, 0.99))
model.fit(ring(), epochs=60, batch_size=128)
print(f"distance from the middle {model.generator(torch.randn(1000, 8)).norm(dim=1).mean():.2f}")
