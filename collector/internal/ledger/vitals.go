package ledger

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// Vitals are how a host stands now, by its last word: what alerts go by. Times are in
// milliseconds.
type Vitals struct {
	// Speaks says that a forwarder speaks for the host every minute: silence means something.
	Speaks bool
	// Kernel says that the forwarder speaks of a kernel; the next three are said then.
	Kernel, Registered, Enabled bool
	Multicast                   bool   // it only listens in, beside another daemon
	Ended                       bool   // the forwarder has said that it ends
	Rules                       string // by hash; "": not known
	Unsent                      uint64
	Oldest, Said                int64 // since when the oldest unsent record waits, and when that was said
	Off                         int64 // since when the kernel says that auditing is off; 0: it does not
	Shut                        int64 // when the host said that it shuts down, and no start came since; 0: it did not
	// Clock is how far the host's clock is behind the collector's, where ClockKnown; negative:
	// it is ahead.
	Clock      int64
	ClockKnown bool
	Missing    []Total // what is missing, ever, by cause
	Alarms     [NumAlarms]uint64
}

// Total is how many records are missing by a cause, ever; of SerialGap, events.
type Total struct {
	Cause Cause  `json:"c"`
	N     uint64 `json:"n"`
}

// Alarm is what a host that keeps the collector's checkpoints finds wrong with them.
type Alarm uint8

// The alarms. The numbers are stored.
const (
	SealFork Alarm = iota
	SealRewind
	SealKey
	SealTime
	SealBad
	NumAlarms
)

var alarms = [NumAlarms]string{"seal-fork", "seal-rewind", "seal-key", "seal-time", "seal-bad"}

// String is the alarm's name, as op= of the record has it.
func (a Alarm) String() string { return alarms[a] }

// vital is what Vitals needs beside what the ledger keeps anyway. It is a part of the tracker.
type vital struct {
	Shut    int64
	Live    bool
	Missing []Total
	Alarms  []uint64 // by Alarm
	// Clock are the latest times that a statement took to come, of those that did not wait in a
	// spool.
	Clock []int64
}

const (
	// clockSays is how many statements it takes to judge a clock: the link may have been cut
	// while one of them was on its way.
	clockSays = 3
	// clockWait is how long, in milliseconds, the oldest record of a spool may wait while a
	// statement still counts as sent at once.
	clockWait = 5_000
	// shutFor is how long a host may take, in milliseconds, that has said that it shuts down: what
	// sends later does not.
	shutFor = 600_000
)

// Vitals returns how the host stands.
func (h *Host) Vitals() Vitals {
	r, v := &h.run, Vitals{Off: h.off, Speaks: h.vital.Live, Shut: h.vital.Shut, Missing: slices.Clone(h.vital.Missing)}
	if r.Run != "" {
		v.Kernel, v.Registered, v.Enabled, v.Multicast = r.Kernel, r.Registered, r.Enabled, r.Multicast
		v.Ended, v.Rules, v.Unsent, v.Oldest, v.Said = r.Ended, r.Rules, r.Unsent, r.Oldest, r.Last
	}
	if len(h.vital.Clock) == clockSays {
		v.Clock, v.ClockKnown = slices.Min(h.vital.Clock), true // whatever delayed the others
	}
	copy(v.Alarms[:], h.vital.Alarms)
	return v
}

// missing adds to what is missing by a cause.
func (v *vital) missing(c Cause, n uint64) {
	if n == 0 || c.State() != Lost || c == Retention || c == Damaged {
		return
	}
	for i := range v.Missing {
		if v.Missing[i].Cause == c {
			v.Missing[i].N = AddUp(v.Missing[i].N, n)
			return
		}
	}
	v.Missing = append(v.Missing, Total{c, n})
}

// says takes a statement, also one whose clock is too far off for anything else.
func (v *vital) says(s *statement, was *run, received int64) {
	if s.Run == was.Run && s.N <= was.N {
		return // it came again
	}
	if s.Run != was.Run && s.N == 1 {
		v.Shut = 0
	}
	v.Live = s.Kernel || s.file
	if s.Unsent > 0 && s.Oldest > 0 && s.Last-s.Oldest > clockWait {
		return
	}
	if v.Clock = append(v.Clock, received-s.Last); len(v.Clock) > clockSays {
		v.Clock = slices.Delete(v.Clock, 0, len(v.Clock)-clockSays)
	}
}

// starts takes records of the host's start and end.
func (v *vital) starts(typ uint16, ms int64) {
	switch typ {
	case tables.SystemShutdown:
		v.Shut = max(ms, 1)
	case tables.SystemBoot, tables.DaemonStart:
		v.Shut = 0
	}
}

// alarm takes what a host says of the collector's checkpoints.
func (v *vital) alarm(r *record.Record) {
	f, ok := r.Get("op")
	if !ok || !bytes.HasPrefix(f.Value, []byte("seal-")) {
		return
	}
	for a := range NumAlarms {
		if string(f.Value) != alarms[a] {
			continue
		}
		if len(v.Alarms) < int(NumAlarms) {
			v.Alarms = append(v.Alarms, make([]uint64, int(NumAlarms)-len(v.Alarms))...)
		}
		v.Alarms[a]++
	}
}

func (v *vital) zero() bool {
	return !v.Live && v.Shut == 0 && len(v.Missing)+len(v.Alarms)+len(v.Clock) == 0
}

// append appends the tracker's part.
func (v *vital) append(dst []byte) []byte {
	live := uint64(0)
	if v.Live {
		live = 1
	}
	dst = binary.AppendVarint(binary.AppendUvarint(dst, live), v.Shut)
	dst = binary.AppendUvarint(dst, uint64(len(v.Missing)))
	for _, m := range v.Missing {
		dst = binary.AppendUvarint(binary.AppendUvarint(dst, uint64(m.Cause)), m.N)
	}
	dst = binary.AppendUvarint(dst, uint64(len(v.Alarms)))
	for _, n := range v.Alarms {
		dst = binary.AppendUvarint(dst, n)
	}
	dst = binary.AppendUvarint(dst, uint64(len(v.Clock)))
	for _, ms := range v.Clock {
		dst = binary.AppendVarint(dst, ms)
	}
	return dst
}

// parse is the reverse of append; false for bytes that are none.
func (v *vital) parse(in *reader) bool {
	v.Live, v.Shut = in.Uvarint() == 1, in.varint()
	n := in.Uvarint()
	if in.Bad() || n > 255 {
		return false
	}
	for range n {
		v.Missing = append(v.Missing, Total{Cause(in.Uvarint()), in.Uvarint()})
	}
	if n = in.Uvarint(); in.Bad() || n > uint64(NumAlarms) {
		return false
	}
	for range n {
		v.Alarms = append(v.Alarms, in.Uvarint())
	}
	if n = in.Uvarint(); in.Bad() || n > clockSays {
		return false
	}
	for range n {
		v.Clock = append(v.Clock, in.varint())
	}
	return !in.Bad()
}
