"""Convolutional encoder and decoder of 84 × 84 × 4 game screens in [-1, 1]."""

from torch import Tensor, nn
from torch.nn import functional as F

from .linear_jat import Linear

CHANNELS = (4, 32, 64, 128)
GRID = 11  # 84 halved three times by stride 2, rounding up


def stack_frames(frames: Tensor) -> Tensor:
    """Single frames (B, T + 3, 84, 84) → the stacks they make, (B, T, 4, 84, 84), oldest first.

    The result is a view: no pixel is copied.
    """
    return frames.unfold(1, CHANNELS[0], 1).permute(0, 1, 4, 2, 3)


class SqueezeExcitation(nn.Module):
    """Channel attention (Hu et al. 2018, section 3), reduction 8, no bias."""

    def __init__(self, channels: int):
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // 8, bias=False),
            nn.ReLU(),
            nn.Linear(channels // 8, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Scales each channel of (B, C, H, W)."""
        return x_BCHW * self.fc(x_BCHW.mean(dim=(2, 3)))[:, :, None, None]


class ImageEncoder(nn.Module):
    """Convolutions that halve the screen three times, then one linear layer."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.conv1 = nn.Conv2d(CHANNELS[0], CHANNELS[1], 3, stride=2, padding=1)
        self.att1 = SqueezeExcitation(CHANNELS[1])
        self.conv2 = nn.Conv2d(CHANNELS[1], CHANNELS[2], 3, stride=2, padding=1)
        self.att2 = SqueezeExcitation(CHANNELS[2])
        self.conv3 = nn.Conv2d(CHANNELS[2], CHANNELS[3], 3, stride=2, padding=1)
        self.att3 = SqueezeExcitation(CHANNELS[3])
        self.fc = Linear(CHANNELS[3] * GRID * GRID, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 4, 84, 84) → (B, hidden_size)."""
        x = self.att1(F.leaky_relu(F.instance_norm(self.conv1(x))))
        x = self.att2(F.leaky_relu(F.instance_norm(self.conv2(x))))
        x = self.att3(F.leaky_relu(F.instance_norm(self.conv3(x))))
        return self.fc(x.flatten(1))


def upsample(channels_in: int, channels_out: int) -> nn.ConvTranspose2d:
    """A layer that doubles height and width."""
    return nn.ConvTranspose2d(channels_in, channels_out, 3, stride=2, padding=1, output_padding=1)


class ImageDecoder(nn.Module):
    """The encoder's mirror image."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.fc = Linear(hidden_size, CHANNELS[3] * GRID * GRID)
        self.deconv1 = upsample(CHANNELS[3], CHANNELS[2])
        self.att1 = SqueezeExcitation(CHANNELS[2])
        self.deconv2 = upsample(CHANNELS[2], CHANNELS[1])
        self.att2 = SqueezeExcitation(CHANNELS[1])
        self.deconv3 = upsample(CHANNELS[1], CHANNELS[0])

    def forward(self, x: Tensor) -> Tensor:
        """(B, hidden_size) → (B, 4, 84, 84) in [-1, 1]."""
        x = self.fc(x).unflatten(1, (CHANNELS[3], GRID, GRID))
        x = F.leaky_relu(F.instance_norm(self.deconv1(x)))
        x = self.att1(F.interpolate(x, size=21))
        x = self.att2(F.leaky_relu(F.instance_norm(self.deconv2(x))))
        return F.tanh(self.deconv3(x))
