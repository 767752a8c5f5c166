package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Message types of the audit netlink protocol (linux/audit.h).
const (
	MsgGet        = 1000
	MsgSet        = 1001
	MsgUser       = 1005
	msgLogin      = 1006
	MsgSignalInfo = 1010
	MsgAddRule    = 1011
	MsgDelRule    = 1012
	MsgListRules  = 1013
	MsgTrim       = 1014
	MsgMakeEquiv  = 1015
	MsgSetFeature = 1018
	MsgGetFeature = 1019
	MsgReplace    = 1329

	// firstRecord is the lowest type that is a record for the log; what is below
	// it is a request or an answer (AUDIT_FIRST_USER_MSG).
	firstRecord = 1100
)

// Bits of Status.Mask (AUDIT_STATUS_*): which fields a Set changes.
const (
	MaskEnabled               = 0x0001
	MaskFailure               = 0x0002
	MaskPID                   = 0x0004
	MaskRateLimit             = 0x0008
	MaskBacklogLimit          = 0x0010
	MaskBacklogWaitTime       = 0x0020
	MaskLost                  = 0x0040
	MaskBacklogWaitTimeActual = 0x0080
)

// MaxMessage is the longest text of one record (MAX_AUDIT_MESSAGE_LENGTH).
const MaxMessage = 8970

const (
	headerLen = unix.NLMSG_HDRLEN
	statusLen = 44
	ruleLen   = 1040 // struct audit_rule_data without its strings
)

// ErrMessage is returned for bytes from the socket that are no netlink message.
var ErrMessage = errors.New("malformed netlink message")

// Message is one netlink message. Payload aliases the buffer it was parsed from.
type Message struct {
	Type    uint16
	Flags   uint16
	Seq     uint32
	PID     uint32
	Payload []byte
}

// ParseMessage parses one datagram of the audit socket, which holds exactly one message;
// ErrMessage otherwise. The payload aliases datagram. In a record's nlmsg_len the kernel
// omits the header's length when it sends to the registered daemon, and counts it when it
// sends to the multicast group, so for records the datagram's own length decides; an
// answer's nlmsg_len must be right.
func ParseMessage(datagram []byte) (Message, error) {
	if len(datagram) < headerLen {
		return Message{}, fmt.Errorf("%w: %d bytes, shorter than a header", ErrMessage, len(datagram))
	}
	m := Message{
		Type:  binary.NativeEndian.Uint16(datagram[4:]),
		Flags: binary.NativeEndian.Uint16(datagram[6:]),
		Seq:   binary.NativeEndian.Uint32(datagram[8:]),
		PID:   binary.NativeEndian.Uint32(datagram[12:]),
	}
	if IsRecord(m.Type) || m.Type == MsgReplace {
		m.Payload = datagram[headerLen:]
		return m, nil
	}
	length := binary.NativeEndian.Uint32(datagram)
	if length < headerLen || uint64(length) > uint64(len(datagram)) {
		return Message{}, fmt.Errorf("%w: type %d says %d bytes, the datagram has %d", ErrMessage, m.Type, length, len(datagram))
	}
	m.Payload = datagram[headerLen:length]
	return m, nil
}

// IsRecord reports whether a message of that type is a record for the log: all types from
// firstRecord on, the user message that auditctl -m sends, and the kernel's login record.
func IsRecord(typ uint16) bool {
	return typ >= firstRecord && typ != MsgReplace || typ == MsgUser || typ == msgLogin
}

// AppendMessage appends a request: the netlink header (length, type, flags, sequence
// number, port; 16 bytes in the host's byte order), the payload, and padding to 4 bytes.
func AppendMessage(dst []byte, m Message) []byte {
	dst = binary.NativeEndian.AppendUint32(dst, uint32(headerLen+len(m.Payload)))
	dst = binary.NativeEndian.AppendUint16(dst, m.Type)
	dst = binary.NativeEndian.AppendUint16(dst, m.Flags)
	dst = binary.NativeEndian.AppendUint32(dst, m.Seq)
	dst = binary.NativeEndian.AppendUint32(dst, m.PID)
	dst = append(dst, m.Payload...)
	for len(dst)%unix.NLMSG_ALIGNTO != 0 {
		dst = append(dst, 0)
	}
	return dst
}

// Status is struct audit_status: the kernel's audit settings and counters.
type Status struct {
	Mask                  uint32 // which fields a Set changes
	Enabled               uint32 // 0 off, 1 on, 2 on and locked until reboot
	Failure               uint32
	PID                   uint32 // of the registered daemon, 0 when none
	RateLimit             uint32
	BacklogLimit          uint32 // records
	Lost                  uint32 // since boot or since it was reset
	Backlog               uint32 // records waiting in the kernel now
	FeatureBitmap         uint32
	BacklogWaitTime       uint32 // jiffies
	BacklogWaitTimeActual uint32 // jiffies
}

func (s *Status) fields() [11]*uint32 {
	return [...]*uint32{&s.Mask, &s.Enabled, &s.Failure, &s.PID, &s.RateLimit, &s.BacklogLimit, &s.Lost, &s.Backlog,
		&s.FeatureBitmap, &s.BacklogWaitTime, &s.BacklogWaitTimeActual}
}

// Append appends s as the kernel lays it out: eleven 32-bit fields in the order of Status,
// in the host's byte order, 44 bytes.
func (s Status) Append(dst []byte) []byte {
	for _, f := range s.fields() {
		dst = binary.NativeEndian.AppendUint32(dst, *f)
	}
	return dst
}

// ParseStatus parses an answer to MsgGet. Kernels before 3.14 and before 5.9 send fewer
// fields, a newer one may send more: missing fields stay zero, further bytes are ignored.
func ParseStatus(b []byte) (Status, error) {
	var s Status
	const least = 32 // up to Backlog, as every kernel since 2.6 has sent
	if len(b) < least {
		return s, fmt.Errorf("%w: status of %d bytes, want at least %d", ErrMessage, len(b), least)
	}
	for _, f := range s.fields() {
		if len(b) < 4 {
			break
		}
		*f = binary.NativeEndian.Uint32(b)
		b = b[4:]
	}
	return s, nil
}

// Features is struct audit_features.
type Features struct {
	Version  uint32
	Mask     uint32 // which features a set names
	Features uint32 // which are on
	Lock     uint32 // which can't be changed any more
}

// Bits of Features.
const (
	FeatureOnlyUnsetLoginUID = 1 << 0
	FeatureLoginUIDImmutable = 1 << 1
)

func (f Features) append(dst []byte) []byte {
	for _, v := range [...]uint32{f.Version, f.Mask, f.Features, f.Lock} {
		dst = binary.NativeEndian.AppendUint32(dst, v)
	}
	return dst
}

func parseFeatures(b []byte) (Features, error) {
	if len(b) < 16 {
		return Features{}, fmt.Errorf("%w: features of %d bytes, want 16", ErrMessage, len(b))
	}
	at := binary.NativeEndian.Uint32
	return Features{Version: at(b), Mask: at(b[4:]), Features: at(b[8:]), Lock: at(b[12:])}, nil
}

// SignalInfo describes the process that last sent a signal to the registered audit daemon.
type SignalInfo struct {
	UID uint32 // its login uid, or its uid when that is not set
	PID uint32
	Ctx string // its security context, "" without a security module
}

func parseSignalInfo(b []byte) (SignalInfo, error) {
	if len(b) < 8 {
		return SignalInfo{}, fmt.Errorf("%w: signal info of %d bytes, want 8", ErrMessage, len(b))
	}
	return SignalInfo{
		UID: binary.NativeEndian.Uint32(b),
		PID: binary.NativeEndian.Uint32(b[4:]),
		Ctx: string(trimEnd(b[8:])),
	}, nil
}

// checkRule refuses an answer that is no struct audit_rule_data: its string
// length must lie within the message.
func checkRule(b []byte) error {
	if len(b) < ruleLen {
		return fmt.Errorf("%w: rule of %d bytes, want at least %d", ErrMessage, len(b), ruleLen)
	}
	if n := binary.NativeEndian.Uint32(b[ruleLen-4:]); uint64(n) > uint64(len(b)-ruleLen) {
		return fmt.Errorf("%w: rule says %d bytes of strings, %d are there", ErrMessage, n, len(b)-ruleLen)
	}
	return nil
}

// ackResult returns what an NLMSG_ERROR message acknowledges with: an errno, or
// zero, or, for counters that were reset, what they had counted.
func ackResult(payload []byte) (uint32, error) {
	if len(payload) < 4 {
		return 0, fmt.Errorf("%w: acknowledgement of %d bytes", ErrMessage, len(payload))
	}
	code := int32(binary.NativeEndian.Uint32(payload))
	switch {
	case code >= 0:
		return uint32(code), nil
	case code < -4095:
		return 0, fmt.Errorf("%w: acknowledgement with code %d", ErrMessage, code)
	}
	return 0, unix.Errno(-code)
}

// ackErrno is ackResult for requests whose acknowledgement carries no number.
func ackErrno(payload []byte) error {
	n, err := ackResult(payload)
	if err == nil && n != 0 {
		return fmt.Errorf("%w: acknowledgement with code %d", ErrMessage, n)
	}
	return err
}

// trimEnd cuts the NUL and newline bytes user programs leave at the end.
func trimEnd(b []byte) []byte {
	for len(b) > 0 && (b[len(b)-1] == 0 || b[len(b)-1] == '\n') {
		b = b[:len(b)-1]
	}
	return b
}
