// Package fakekernel is the kernel's side of the audit netlink protocol for
// tests: status, registration, rules, acknowledgements and records, with the
// faults a real kernel can't be asked for. Tests of package kernel and of what
// wires it may import it.
package fakekernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/pkg/wake"
)

// Kernel is one fake kernel. Its fields may be set before it is used.
type Kernel struct {
	mu          sync.Mutex // guards everything
	status      kernel.Status
	features    kernel.Features
	rules       [][]byte
	equivalents []string
	errs        map[uint16][]error // answers to the next requests of a type
	daemon      *Socket            // the registered one's
	alive       map[uint32]bool    // pids of other daemons that live
	group       []*Socket
	serial      uint64
	requests    []uint16
	signal      kernel.SignalInfo
	onRequest   func(typ uint16)
}

// New returns a kernel at rest: audit off, nobody registered.
func New() *Kernel {
	return &Kernel{
		status: kernel.Status{Failure: 1, BacklogLimit: 64, BacklogWaitTime: 15000},
		errs:   map[uint16][]error{}, alive: map[uint32]bool{},
	}
}

// Status returns the present status.
func (k *Kernel) Status() kernel.Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.status
}

// SetStatus changes the status without telling any socket.
func (k *Kernel) SetStatus(change func(*kernel.Status)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change(&k.status)
}

// OtherDaemon registers another live daemon with that pid, taking the place of
// the one that is registered.
func (k *Kernel) OtherDaemon(pid uint32) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.alive[pid] = true
	k.status.PID = pid
	k.daemon = nil
}

// DropDaemon forgets the registered daemon, as a kernel does that could not deliver to
// it for a while.
func (k *Kernel) DropDaemon() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.status.PID, k.daemon = 0, nil
}

// Fail makes the kernel answer the next request of that type with err. Calls queue up; a
// nil err lets one request succeed.
func (k *Kernel) Fail(typ uint16, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.errs[typ] = append(k.errs[typ], err)
}

// OnRequest makes the kernel call f before it handles each request; f must not use the kernel.
func (k *Kernel) OnRequest(f func(typ uint16)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.onRequest = f
}

// SetSignal says who signalled the daemon.
func (k *Kernel) SetSignal(s kernel.SignalInfo) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.signal = s
}

// Requests lists the types of all requests so far.
func (k *Kernel) Requests() []uint16 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]uint16(nil), k.requests...)
}

// Rules lists the loaded rules.
func (k *Kernel) Rules() [][]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([][]byte(nil), k.rules...)
}

// Equivalents lists the MOUNTSUBTREE pairs of make equivalent requests.
func (k *Kernel) Equivalents() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]string(nil), k.equivalents...)
}

// Features returns the features that are on.
func (k *Kernel) Features() kernel.Features {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.features
}

// SetFeatures changes the features without telling any socket.
func (k *Kernel) SetFeatures(f kernel.Features) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.features = f
}

// Emit sends a record "audit(SEC.MS:SERIAL): body" to whoever listens and
// returns its serial. Without room there it is lost, as in a kernel whose
// backlog is full.
func (k *Kernel) Emit(typ uint16, body string) uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.serial++
	serial := k.serial
	k.emitLocked(typ, fmt.Appendf(nil, "audit(1700000000.%03d:%d): %s", serial%1000, serial, body))
	return serial
}

// Skip takes n serials of events that nobody gets.
func (k *Kernel) Skip(n uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.serial += n
}

// EmitRaw sends a datagram as it is to whoever listens.
func (k *Kernel) EmitRaw(datagram []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.listenersLocked() {
		s.deliver(datagram, false)
	}
}

func (k *Kernel) listenersLocked() []*Socket {
	all := append([]*Socket(nil), k.group...)
	if k.daemon != nil {
		all = append(all, k.daemon)
	}
	return all
}

func (k *Kernel) emitLocked(typ uint16, text []byte) {
	msg := kernel.AppendMessage(nil, kernel.Message{Type: typ, Payload: text})[:16+len(text)]
	for _, s := range k.group {
		if !s.deliver(msg, false) {
			s.overrun()
		}
	}
	if k.daemon == nil {
		return
	}
	// The length without the header: what a real kernel writes to the daemon.
	quirk := bytes.Clone(msg)
	quirk[0], quirk[1] = byte(len(text)), byte(len(text)>>8)
	if !k.daemon.deliver(quirk, false) {
		k.status.Lost++
	}
}

// handle answers one request from a socket, as audit_receive_msg does.
func (k *Kernel) handle(s *Socket, m kernel.Message) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.requests = append(k.requests, m.Type)
	if k.onRequest != nil {
		k.onRequest(m.Type)
	}
	// One that finds no room is lost, as with a real kernel.
	ack := func(err error) {
		if s.losesAcks() {
			return
		}
		code := int32(0)
		if errno := unix.Errno(0); errors.As(err, &errno) {
			code = -int32(errno)
		}
		payload := []byte{byte(code), byte(code >> 8), byte(code >> 16), byte(code >> 24)}
		s.deliver(kernel.AppendMessage(nil, kernel.Message{Type: unix.NLMSG_ERROR, Seq: m.Seq, Payload: append(payload, make([]byte, 16)...)}), false)
	}
	if list := k.errs[m.Type]; len(list) > 0 {
		k.errs[m.Type] = list[1:]
		if list[0] != nil {
			ack(list[0])
			return
		}
	}
	reply := func(typ uint16, payload []byte) {
		s.deliver(kernel.AppendMessage(nil, kernel.Message{Type: typ, Seq: m.Seq, Payload: payload}), true)
	}
	switch m.Type {
	case kernel.MsgGet:
		ack(nil)
		reply(kernel.MsgGet, k.status.Append(nil))
	case kernel.MsgSet:
		if n := k.resetLocked(m.Payload); n > 0 {
			s.deliver(kernel.AppendMessage(nil, kernel.Message{Type: unix.NLMSG_ERROR, Seq: m.Seq, Payload: binary.NativeEndian.AppendUint32(nil, n)}), true)
			return
		}
		ack(k.setLocked(s, m.Payload))
	case kernel.MsgGetFeature:
		ack(nil)
		f := k.features
		reply(kernel.MsgGetFeature, []byte{byte(f.Version), 0, 0, 0, byte(f.Mask), 0, 0, 0, byte(f.Features), 0, 0, 0, byte(f.Lock), 0, 0, 0})
	case kernel.MsgSetFeature:
		ack(k.setFeatureLocked(m.Payload))
	case kernel.MsgListRules:
		ack(nil)
		for _, r := range k.rules {
			reply(kernel.MsgListRules, r)
		}
		reply(unix.NLMSG_DONE, nil)
	case kernel.MsgAddRule, kernel.MsgDelRule:
		ack(k.ruleLocked(m.Type, m.Payload))
	case kernel.MsgSignalInfo:
		ack(nil)
		p := []byte{byte(k.signal.UID), byte(k.signal.UID >> 8), byte(k.signal.UID >> 16), byte(k.signal.UID >> 24),
			byte(k.signal.PID), byte(k.signal.PID >> 8), byte(k.signal.PID >> 16), byte(k.signal.PID >> 24)}
		reply(kernel.MsgSignalInfo, append(p, k.signal.Ctx...))
	case kernel.MsgTrim:
		ack(nil)
	case kernel.MsgMakeEquiv:
		k.equivalents = append(k.equivalents, string(m.Payload[min(8, len(m.Payload)):]))
		ack(nil)
	default:
		if !kernel.IsRecord(m.Type) {
			ack(unix.EINVAL)
			return
		}
		ack(nil)
		k.serial++
		text := bytes.TrimRight(m.Payload, "\x00")
		k.emitLocked(m.Type, fmt.Appendf(nil, "audit(1700000000.000:%d): pid=1 uid=0 auid=0 ses=1 msg='%s'", k.serial, text))
	}
}

// resetLocked resets a counter and returns what it had, which the kernel answers
// in place of zero.
func (k *Kernel) resetLocked(payload []byte) uint32 {
	want, err := kernel.ParseStatus(payload)
	if err != nil {
		return 0
	}
	n := uint32(0)
	switch want.Mask {
	case kernel.MaskLost:
		n, k.status.Lost = k.status.Lost, 0
	case kernel.MaskBacklogWaitTimeActual:
		n, k.status.BacklogWaitTimeActual = k.status.BacklogWaitTimeActual, 0
	}
	return n
}

func (k *Kernel) setLocked(s *Socket, payload []byte) error {
	want, err := kernel.ParseStatus(payload)
	if err != nil {
		return unix.EINVAL
	}
	const config = kernel.MaskEnabled | kernel.MaskFailure | kernel.MaskRateLimit | kernel.MaskBacklogLimit | kernel.MaskBacklogWaitTime
	if want.Mask&config != 0 && k.status.Enabled == 2 {
		return unix.EPERM
	}
	if want.Mask&kernel.MaskEnabled != 0 {
		was := k.status.Enabled
		k.status.Enabled = want.Enabled
		k.serial++
		k.emitLocked(1305, fmt.Appendf(nil, "audit(1700000000.000:%d): op=set audit_enabled=%d old=%d auid=0 ses=1 res=1", k.serial, want.Enabled, was))
	}
	if want.Mask&kernel.MaskPID != 0 {
		if err := k.setPIDLocked(s, want.PID); err != nil {
			return err
		}
	}
	if want.Mask&kernel.MaskBacklogLimit != 0 {
		k.status.BacklogLimit = want.BacklogLimit
	}
	if want.Mask&kernel.MaskFailure != 0 {
		k.status.Failure = want.Failure
	}
	if want.Mask&kernel.MaskRateLimit != 0 {
		k.status.RateLimit = want.RateLimit
	}
	if want.Mask&kernel.MaskBacklogWaitTime != 0 {
		if want.BacklogWaitTime > 10*15000 {
			return unix.EINVAL
		}
		k.status.BacklogWaitTime = want.BacklogWaitTime
	}
	return nil
}

func (k *Kernel) setPIDLocked(s *Socket, pid uint32) error {
	if k.daemon != nil {
		p := s.pid
		k.daemon.deliver(kernel.AppendMessage(nil, kernel.Message{Type: kernel.MsgReplace, Payload: []byte{byte(p), byte(p >> 8), byte(p >> 16), byte(p >> 24)}}), true)
	}
	live := k.status.PID != 0 && (k.alive[k.status.PID] || k.daemon != nil)
	if pid == 0 {
		if k.status.PID != s.pid {
			return unix.EACCES
		}
		k.status.PID, k.daemon = 0, nil
		return nil
	}
	if pid != s.pid {
		return unix.EINVAL
	}
	if live {
		return unix.EEXIST
	}
	k.status.PID, k.daemon = pid, s
	return nil
}

func (k *Kernel) setFeatureLocked(payload []byte) error {
	if len(payload) < 16 {
		return unix.EINVAL
	}
	mask, features, lock := uint32(payload[4]), uint32(payload[8]), uint32(payload[12])
	if mask&k.features.Lock != 0 {
		return unix.EPERM
	}
	k.features.Features = k.features.Features&^mask | features&mask
	k.features.Lock |= lock & mask
	return nil
}

func (k *Kernel) ruleLocked(typ uint16, rule []byte) error {
	if k.status.Enabled == 2 {
		return unix.EPERM
	}
	if len(rule) < 1040 {
		return unix.EINVAL
	}
	const prepend = 0x10
	asSent := rule
	rule = bytes.Clone(rule)
	flags := binary.NativeEndian.Uint32(rule)
	binary.NativeEndian.PutUint32(rule, flags&^prepend)
	for i, r := range k.rules {
		// The kernel looks for the rule as it was sent, and keeps it without the
		// flag: a rule put first (-A) is never found to be there already.
		if !bytes.Equal(r, asSent) {
			continue
		}
		if typ == kernel.MsgAddRule {
			return unix.EEXIST
		}
		k.rules = append(k.rules[:i], k.rules[i+1:]...)
		return nil
	}
	if typ == kernel.MsgDelRule {
		return unix.ENOENT
	}
	if flags&prepend != 0 {
		k.rules = append([][]byte{rule}, k.rules...)
		return nil
	}
	k.rules = append(k.rules, rule)
	return nil
}

// Socket opens a socket of process pid with room for limit bytes. group joins
// the multicast group.
func (k *Kernel) Socket(pid uint32, limit int, group bool) *Socket {
	s := &Socket{k: k, pid: pid, limit: limit, arrived: wake.New(), woken: wake.New()}
	if group {
		k.mu.Lock()
		k.group = append(k.group, s)
		k.mu.Unlock()
	}
	return s
}

// Conn opens a control connection of process pid.
func (k *Kernel) Conn(pid uint32) *kernel.Conn {
	return kernel.NewConn(k.Socket(pid, 1<<20, false))
}

// Socket is one process' socket; it implements kernel.Socket.
type Socket struct {
	k       *Kernel
	pid     uint32
	limit   int
	arrived wake.Signal
	woken   wake.Signal

	mu      sync.Mutex // guards what follows; may be taken with Kernel.mu held, never the other way
	queue   [][]byte
	used    int
	drops   uint32
	enobufs bool
	closed  bool
	foreign bool
	noAcks  bool
}

// LoseAcks makes the socket lose every acknowledgement from now on.
func (s *Socket) LoseAcks() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noAcks = true
}

func (s *Socket) losesAcks() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.noAcks
}

// Foreign marks all datagrams as sent by a process from now on.
func (s *Socket) Foreign(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.foreign = on
}

func (s *Socket) deliver(msg []byte, always bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || !always && s.used+len(msg) > s.limit {
		return false
	}
	s.queue = append(s.queue, msg)
	s.used += len(msg)
	s.arrived.Set()
	return true
}

func (s *Socket) overrun() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.enobufs = true
	s.drops++
	s.arrived.Set()
}

// Send implements kernel.Socket.
func (s *Socket) Send(msg []byte) error {
	m, err := kernel.ParseMessage(msg)
	if err != nil {
		return unix.EINVAL
	}
	s.k.handle(s, m)
	return nil
}

// Recv implements kernel.Socket.
func (s *Socket) Recv(d []kernel.Datagram) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, unix.EBADF
	}
	if s.enobufs {
		s.enobufs = false
		return 0, unix.ENOBUFS
	}
	if len(s.queue) == 0 {
		return 0, unix.EAGAIN
	}
	n := min(len(d), len(s.queue))
	for i := range d[:n] {
		msg := s.queue[i]
		d[i].N = copy(d[i].Buf, msg)
		d[i].Truncated = d[i].N < len(msg)
		d[i].Foreign = s.foreign
		s.used -= len(msg)
	}
	s.queue = s.queue[n:]
	return n, nil
}

// Wait implements kernel.Socket.
func (s *Socket) Wait(timeout time.Duration) error {
	s.mu.Lock()
	ready := len(s.queue) > 0 || s.enobufs
	s.mu.Unlock()
	if ready {
		return nil
	}
	var after <-chan time.Time
	if timeout >= 0 {
		after = time.After(timeout)
	}
	select {
	case <-s.arrived:
	case <-s.woken:
	case <-after:
	}
	return nil
}

// Pause implements kernel.Socket.
func (s *Socket) Pause(d time.Duration) {
	select {
	case <-s.woken:
		s.woken.Set()
	case <-time.After(d):
	}
}

// Wake implements kernel.Socket.
func (s *Socket) Wake() { s.woken.Set() }

// Memory implements kernel.Socket.
func (s *Socket) Memory() (used, limit int, drops uint32, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used, s.limit, s.drops, nil
}

// Granted implements kernel.Socket.
func (s *Socket) Granted() (int, bool) { return s.limit, true }

// PortID implements kernel.Socket.
func (s *Socket) PortID() uint32 { return s.pid }

// Close implements kernel.Socket.
func (s *Socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}
