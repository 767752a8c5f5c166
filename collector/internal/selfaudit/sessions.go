package selfaudit

import (
	"net"
	"net/netip"
	"os"

	"github.com/auditfleet/auditfleet/pkg/daemonrec"
	"github.com/auditfleet/auditfleet/pkg/pki"
)

// Session stores that a TLS session has begun, whatever it carries: between which addresses,
// with whom, who has proved it by what, by which cipher with a key of so many bits, and by
// which exchange of keys. The words are sshd's; acct and auth are beside them. A peer that comes
// in a loop has as many stored as beginnings and ends of connections.
func (r *Records) Session(peer netip.AddrPort, local net.Addr, name string, s pki.Session) {
	pid, uid := os.Getpid(), os.Getuid()
	laddr, lport := "?", uint16(0)
	if tcp, ok := local.(*net.TCPAddr); ok {
		at := tcp.AddrPort()
		laddr, lport = address(at.Addr()), at.Port()
	}
	r.stranger(r.connections, "CRYPTO_SESSION", peer, "pid=%d uid=%d auid=%s ses=%s msg='op=start direction=from-client cipher=%s ksize=%d mac=<implicit> pfs=%s auth=%s acct=%s spid=%d suid=%d rport=%d laddr=%s lport=%d exe=%s hostname=? addr=%s terminal=? res=success'",
		pid, uid, daemonrec.ProcessID("self", "loginuid"), daemonrec.ProcessID("self", "sessionid"),
		s.Cipher, s.Bits, s.Group, s.Auth, encodeName(name), pid, uid, peer.Port(), laddr, lport, r.exe, address(peer.Addr()))
}
