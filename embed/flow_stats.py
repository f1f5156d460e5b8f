"""The numbers of a flow, gathered from its packets one by one.

The definitions are those of CICFlowMeter (A. Habibi Lashkari et al., 2017), as its published
captures follow them: a deviation is that of a sample (n - 1), 0 for fewer than two values; times
between packets are in microseconds; a stretch of idleness is a gap of more than five seconds; a
bulk is four packets or more of one direction without one of the other between them and without a
gap of more than a second. Rates of a flow that lasts less than a microsecond are 0. Lengths are
what the sensor gives as the size of a packet.

Sums are whole numbers of bytes and nanoseconds, so nothing is lost on the way.
"""

from __future__ import annotations

from math import sqrt

from proto.network_security_pb2 import NetworkFeatures

_US = 1_000
_S = 1_000_000_000
IDLE_STRETCH_NS = 5 * _S
BULK_PACKETS = 4
BULK_GAP_NS = _S
MOST_HEADER = 65_535.0


class Sums:
    """Count, sum, sum of squares, highest and lowest of some whole numbers."""

    __slots__ = ("count", "highest", "lowest", "squares", "total")

    def __init__(self) -> None:
        self.count = self.total = self.squares = self.highest = self.lowest = 0

    def add(self, value: int) -> None:
        """Take a number."""
        if not self.count or value < self.lowest:
            self.lowest = value
        if value > self.highest:
            self.highest = value
        self.count += 1
        self.total += value
        self.squares += value * value

    def joined(self, other: Sums) -> Sums:
        """Both together, as something new."""
        if not self.count or not other.count:
            return self if self.count else other
        both = Sums()
        both.count = self.count + other.count
        both.total = self.total + other.total
        both.squares = self.squares + other.squares
        both.highest = max(self.highest, other.highest)
        both.lowest = min(self.lowest, other.lowest)
        return both

    @property
    def mean(self) -> float:
        """Their mean; 0 of none."""
        return self.total / self.count if self.count else 0.0

    @property
    def variance(self) -> float:
        """Their variance as a sample (n - 1); 0 of fewer than two."""
        if self.count < 2:
            return 0.0
        return (self.count * self.squares - self.total**2) / (self.count * (self.count - 1))


class _Way:
    """One direction of a flow."""

    __slots__ = (
        "bulk_bytes",
        "bulk_ns",
        "bulk_packets",
        "bulks",
        "gaps",
        "header",
        "last_ns",
        "pushes",
        "run_began_ns",
        "run_bytes",
        "run_packets",
        "sizes",
        "urgent",
    )

    def __init__(self) -> None:
        self.sizes, self.gaps = Sums(), Sums()
        self.last_ns = -1
        self.header = 0.0
        self.pushes = self.urgent = 0
        self.bulks = self.bulk_packets = self.bulk_bytes = self.bulk_ns = 0
        self.run_packets = self.run_bytes = self.run_began_ns = 0

    def add(self, at_ns: int, size: int, other_last_ns: int) -> None:
        """Take a packet; `other_last_ns` is when the other direction sent last, -1 for never."""
        self.sizes.add(size)
        if self.last_ns >= 0:
            self.gaps.add(at_ns - self.last_ns)
        self._bulk(at_ns, size, other_last_ns)
        self.last_ns = at_ns

    def _bulk(self, at_ns: int, size: int, other_last_ns: int) -> None:
        cut = other_last_ns > self.run_began_ns or at_ns - self.last_ns > BULK_GAP_NS
        if not self.run_packets or cut:
            self.run_packets, self.run_bytes, self.run_began_ns = 1, size, at_ns
            return
        self.run_packets += 1
        self.run_bytes += size
        if self.run_packets == BULK_PACKETS:
            self.bulks += 1
            self.bulk_packets += self.run_packets
            self.bulk_bytes += self.run_bytes
            self.bulk_ns += at_ns - self.run_began_ns
        elif self.run_packets > BULK_PACKETS:
            self.bulk_packets += 1
            self.bulk_bytes += size
            self.bulk_ns += at_ns - self.last_ns


class FlowStats:
    """The numbers of one flow so far.

    Attributes:
        elapsed_ns: from its first packet to its last.
    """

    __slots__ = (
        "_active",
        "_back",
        "_cwr",
        "_ece",
        "_fin",
        "_forth",
        "_gaps",
        "_idle",
        "_psh",
        "_rst",
        "_stretch_ns",
        "_syn",
        "_urg",
        "_with_ack",
        "elapsed_ns",
    )

    def __init__(self) -> None:
        self.elapsed_ns = 0
        self._forth = _Way()
        # Many flows are a single probe: what they do not need is made when it is needed.
        self._back: _Way | None = None
        self._gaps = Sums()
        self._active: Sums | None = None
        self._idle: Sums | None = None
        self._stretch_ns = 0
        self._fin = self._syn = self._rst = self._psh = 0
        self._with_ack = self._urg = self._cwr = self._ece = 0

    @property
    def packets(self) -> int:
        """Packets of both directions."""
        return self._forth.sizes.count + (0 if self._back is None else self._back.sizes.count)

    def add(self, gap_ns: int, size: int, packet: NetworkFeatures, *, forward: bool) -> None:
        """Take a packet that came `gap_ns` (not negative) after the one before it.

        Never raises for what the packet holds: a flag count says whether the flag is set, and a
        header length that cannot be one is none.
        """
        if self._forth.last_ns >= 0:
            self._gaps.add(gap_ns)
            if gap_ns > IDLE_STRETCH_NS:
                self._rest(gap_ns)
            self.elapsed_ns += gap_ns
        if forward:
            way, other = self._forth, self._back
        else:
            way, other = self._back or _Way(), self._forth
            self._back = way
        way.add(self.elapsed_ns, size, -1 if other is None else other.last_ns)
        if 0.0 < packet.forward_header_length <= MOST_HEADER:
            way.header += packet.forward_header_length
        self._flags(way, packet)

    def _rest(self, gap_ns: int) -> None:
        if self._active is None or self._idle is None:
            self._active, self._idle = Sums(), Sums()
        if self.elapsed_ns > self._stretch_ns:
            self._active.add(self.elapsed_ns - self._stretch_ns)
        self._idle.add(gap_ns)
        self._stretch_ns = self.elapsed_ns + gap_ns

    def _flags(self, way: _Way, packet: NetworkFeatures) -> None:
        self._syn += packet.syn_flag_count > 0
        self._with_ack += packet.ack_flag_count > 0
        self._fin += packet.fin_flag_count > 0
        self._rst += packet.rst_flag_count > 0
        self._cwr += packet.cwe_flag_count > 0
        self._ece += packet.ece_flag_count > 0
        if packet.psh_flag_count or packet.forward_psh_flags:
            self._psh += 1
            way.pushes += 1
        if packet.urg_flag_count or packet.forward_urg_flags:
            self._urg += 1
            way.urgent += 1

    def fill(self, flow: NetworkFeatures) -> None:
        """Write everything that is derived into the fields of a flow."""
        forth, back = self._forth, self._back or _Way()
        elapsed_us = self.elapsed_ns // _US
        flow.flow_duration_microseconds = elapsed_us
        flow.flow_duration.FromNanoseconds(self.elapsed_ns)
        flow.total_forward_packets, flow.total_backward_packets = (
            forth.sizes.count,
            back.sizes.count,
        )
        flow.total_forward_bytes, flow.total_backward_bytes = forth.sizes.total, back.sizes.total
        self._fill_sizes(flow, forth, back)
        self._fill_gaps(flow, forth, back)
        seconds = elapsed_us / 1e6
        packets, size = self.packets, forth.sizes.total + back.sizes.total
        flow.flow_bytes_per_second = size / seconds if elapsed_us else 0.0
        flow.flow_packets_per_second = packets / seconds if elapsed_us else 0.0
        flow.forward_packets_per_second = forth.sizes.count / seconds if elapsed_us else 0.0
        flow.backward_packets_per_second = back.sizes.count / seconds if elapsed_us else 0.0
        flow.download_upload_ratio = back.sizes.count / forth.sizes.count
        self._fill_flags(flow, forth, back)
        self._fill_bulks(flow, forth, back)
        active = Sums() if self._active is None else self._active
        if self._idle is not None and self.elapsed_ns > self._stretch_ns:
            last = Sums()
            last.add(self.elapsed_ns - self._stretch_ns)
            active = active.joined(last)
        flow.active_mean = active.mean / _US
        flow.idle_mean = 0.0 if self._idle is None else self._idle.mean / _US

    @staticmethod
    def _fill_sizes(flow: NetworkFeatures, forth: _Way, back: _Way) -> None:
        flow.forward_packet_length_max = forth.sizes.highest
        flow.forward_packet_length_min = forth.sizes.lowest
        flow.forward_packet_length_mean = forth.sizes.mean
        flow.forward_packet_length_std = sqrt(forth.sizes.variance)
        flow.backward_packet_length_max = back.sizes.highest
        flow.backward_packet_length_min = back.sizes.lowest
        flow.backward_packet_length_mean = back.sizes.mean
        flow.backward_packet_length_std = sqrt(back.sizes.variance)
        flow.average_forward_segment_size = forth.sizes.mean
        flow.average_backward_segment_size = back.sizes.mean
        both = forth.sizes.joined(back.sizes)
        flow.average_packet_size = both.mean
        flow.minimum_packet_length = both.lowest
        flow.maximum_packet_length = both.highest
        flow.packet_length_mean = both.mean
        flow.packet_length_std = sqrt(both.variance)
        flow.packet_length_variance = both.variance

    def _fill_gaps(self, flow: NetworkFeatures, forth: _Way, back: _Way) -> None:
        gaps = self._gaps
        flow.flow_inter_arrival_time_mean = gaps.mean / _US
        flow.flow_inter_arrival_time_std = sqrt(gaps.variance) / _US
        flow.flow_inter_arrival_time_max = gaps.highest // _US
        flow.flow_inter_arrival_time_min = gaps.lowest // _US
        flow.forward_inter_arrival_time_total = forth.gaps.total / _US
        flow.forward_inter_arrival_time_mean = forth.gaps.mean / _US
        flow.forward_inter_arrival_time_std = sqrt(forth.gaps.variance) / _US
        flow.forward_inter_arrival_time_max = forth.gaps.highest // _US
        flow.forward_inter_arrival_time_min = forth.gaps.lowest // _US
        flow.backward_inter_arrival_time_total = back.gaps.total / _US
        flow.backward_inter_arrival_time_mean = back.gaps.mean / _US
        flow.backward_inter_arrival_time_std = sqrt(back.gaps.variance) / _US
        flow.backward_inter_arrival_time_max = back.gaps.highest // _US
        flow.backward_inter_arrival_time_min = back.gaps.lowest // _US

    def _fill_flags(self, flow: NetworkFeatures, forth: _Way, back: _Way) -> None:
        flow.fin_flag_count, flow.syn_flag_count = self._fin, self._syn
        flow.rst_flag_count, flow.psh_flag_count = self._rst, self._psh
        flow.ack_flag_count, flow.urg_flag_count = self._with_ack, self._urg
        flow.cwe_flag_count, flow.ece_flag_count = self._cwr, self._ece
        flow.forward_psh_flags, flow.backward_psh_flags = forth.pushes, back.pushes
        flow.forward_urg_flags, flow.backward_urg_flags = forth.urgent, back.urgent
        flow.forward_header_length, flow.backward_header_length = forth.header, back.header

    @staticmethod
    def _fill_bulks(flow: NetworkFeatures, forth: _Way, back: _Way) -> None:
        flow.forward_average_bytes_bulk = _whole(forth.bulk_bytes, forth.bulks)
        flow.forward_average_packets_bulk = _whole(forth.bulk_packets, forth.bulks)
        flow.forward_average_bulk_rate = _whole(forth.bulk_bytes * _S, forth.bulk_ns)
        flow.backward_average_bytes_bulk = _whole(back.bulk_bytes, back.bulks)
        flow.backward_average_packets_bulk = _whole(back.bulk_packets, back.bulks)
        flow.backward_average_bulk_rate = _whole(back.bulk_bytes * _S, back.bulk_ns)


def _whole(total: int, parts: int) -> float:
    """CICFlowMeter gives what it says of bulks in whole numbers."""
    return float(total // parts) if parts else 0.0
