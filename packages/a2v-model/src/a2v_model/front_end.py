"""The front end: waveform (B, N) -> frames (B, T, C), channels last throughout (paper, front end; spec 2)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from a2v_model.config import FrontEndConfig
from a2v_model.cpu_kernels import sinc_norm_pswish
from a2v_model.filterbank_start import start_as_filterbank
from a2v_model.layers import ChannelsLastConv, LayerNorm, autocast_dtype
from a2v_model.recomputation import Recomputing
from a2v_model.sinc import PSwish, SincFilters


class SincLayer(nn.Module):
    """Sinc filterbank, LayerNorm over channels, PSwish (or GELU): (B, N) -> (B, N, F)."""

    def __init__(self, config: FrontEndConfig) -> None:
        super().__init__()
        self.filters = SincFilters(config.filters, config.kernel, config.sample_rate, config.minimum_band_hz)
        self.norm = LayerNorm(config.filters)
        self.activation = PSwish(config.filters) if config.sinc_activation == "pswish" else nn.GELU()

    def forward(self, waveform_BN: Tensor) -> Tensor:
        on_cpu = waveform_BN.device.type == "cpu" and not torch.compiler.is_compiling()
        if on_cpu and isinstance(self.activation, PSwish) and not waveform_BN.requires_grad:
            return self._fused(waveform_BN, self.activation)
        return self.activation(self.norm(self.filters(waveform_BN)))

    def _fused(self, waveform_BN: Tensor, pswish: PSwish) -> Tensor:
        dtype = autocast_dtype(waveform_BN.float())
        with torch.autocast(waveform_BN.device.type, enabled=False):
            padded, filters, norm = self.filters.pad(waveform_BN), self.filters.filters(), self.norm
            return sinc_norm_pswish(padded, filters, norm.weight, norm.bias, pswish.alpha, pswish.beta, norm.eps, dtype)


class ConvLayer(nn.Module):
    """Convolution without bias, LayerNorm over channels, GELU: (B, T, C) -> (B, T', C')."""

    def __init__(self, channels: int, filters: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = ChannelsLastConv(channels, filters, kernel, stride, bias=False)
        nn.init.kaiming_normal_(self.conv.weight)
        self.norm = LayerNorm(filters)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return functional.gelu(self.norm(self.conv(x_BTC)))


class FrontEnd(Recomputing):
    """Sinc layer (or none) and the convolution stack. Knows its sample rate, stride and frame rate."""

    def __init__(self, config: FrontEndConfig) -> None:
        super().__init__()
        self.config = config
        self.sinc = SincLayer(config) if config.sinc else None
        channels = config.filters if config.sinc else 1
        layers = []
        for filters, kernel, stride in config.layers:
            layers.append(ConvLayer(channels, filters, kernel, stride))
            channels = filters
        if config.start == "filterbank" and self.sinc is not None:
            sinc = self.sinc
            start_as_filterbank(sinc.filters, sinc.norm, sinc.activation, [layer.conv for layer in layers])
        self.layers = nn.ModuleList(layers)

    def forward(self, waveform_BN: Tensor) -> Tensor:
        """Frames (B, T, C) of normalised waveforms (B, N) at `config.sample_rate`."""
        self.config.frames(waveform_BN.shape[1])  # a segment that is too short fails here, with a clear line
        x_BTC = self.part(self.sinc, waveform_BN) if self.sinc is not None else waveform_BN[:, :, None]
        for layer in self.layers:
            x_BTC = self.part(layer, x_BTC)
        return x_BTC
