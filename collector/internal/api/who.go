package api

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"strconv"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/auditfleet/auditfleet/pkg/daemonrec"
)

// Who is who makes a call: a process of this machine, as the kernel knows it, or who has
// proved a name by a certificate.
type Who struct {
	PID           int32  // 0: the caller is on another machine, or the kernel does not say
	UID           uint32 // 4294967295 where there is none
	AUID, Session string // 4294967295 where there is none
	// Title is the process's command line, its words with NUL between them, as the process
	// has it; cut off.
	Title []byte

	Name   string // as the certificate has it; "" for one of this machine
	Serial string // of the certificate
	Addr   netip.AddrPort
}

// Of another machine, whose ids mean nothing here.
const noID = 4294967295

// maxTitle is how much of a command line is kept; the kernel keeps 128 bytes of it.
const maxTitle = 1 << 10

// process says who a process is.
func process(pid int32, uid uint32) Who {
	w := Who{PID: pid, UID: uid, AUID: daemonrec.Unset, Session: daemonrec.Unset}
	if pid <= 0 { // of a namespace that this process does not see
		return w
	}
	dir := strconv.Itoa(int(pid))
	w.AUID, w.Session = daemonrec.ProcessID(dir, "loginuid"), daemonrec.ProcessID(dir, "sessionid")
	f, err := os.Open("/proc/" + dir + "/cmdline")
	if err != nil {
		return w
	}
	defer f.Close()
	b := make([]byte, maxTitle)
	n, _ := f.Read(b)
	w.Title = bytes.TrimRight(b[:n], "\x00")
	return w
}

// certified is what a transport's handshake knows of a caller of another machine.
type certified interface {
	Caller() string
	// Serial is the certificate's serial.
	Serial() string
}

// whoOf says who makes a call.
func whoOf(ctx context.Context) Who {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return Who{UID: noID, AUID: daemonrec.Unset, Session: daemonrec.Unset}
	}
	return whoIs(p.AuthInfo, p)
}

func whoIs(info credentials.AuthInfo, p *peer.Peer) Who {
	if c, ok := info.(*caller); ok {
		return c.who
	}
	w := Who{UID: noID, AUID: daemonrec.Unset, Session: daemonrec.Unset}
	if p.Addr != nil {
		w.Addr, _ = netip.ParseAddrPort(p.Addr.String()) // not valid: a socket's
	}
	if c, ok := info.(certified); ok {
		w.Name, w.Serial = c.Caller(), c.Serial()
	}
	return w
}
