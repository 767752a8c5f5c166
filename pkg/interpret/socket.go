package interpret

import (
	"encoding/binary"
	"net/netip"
	"strconv"
)

// Socket is a struct sockaddr as a record has it (saddr=, in hex). The zero value has
// no family.
type Socket struct {
	buf [maxSockAddr]byte
	n   int
}

// Families whose addresses the stock tool does not know, by their number in the kernel.
const (
	afPacket = 17
	afVSock  = 40
)

// ParseSocket reads the hex of a struct sockaddr. It returns false where v is no hex or
// too short to name a family.
func ParseSocket(v []byte) (a Socket, ok bool) {
	digits := HexLen(v)
	if digits < 4 || digits != len(v) {
		return a, false
	}
	a.n = min(digits/2, len(a.buf))
	for i := range a.n {
		a.buf[i] = HexByte(v, 2*i)
	}
	return a, true
}

func (a *Socket) family() uint16 { return binary.LittleEndian.Uint16(a.buf[:]) }

// Family returns the name of the address family as the stock tool has it ("inet", "local",
// "netlink"), or "" where the family is unknown.
func (a *Socket) Family() string {
	name, _ := families.lookup(uint64(a.family()))
	return name
}

// IsInternet says whether it is an address of IPv4 or IPv6.
func (a *Socket) IsInternet() bool { return a.family() == afInet || a.family() == afInet6 }

// Port returns the port, and whether the address has one: those of the internet and of
// virtual machines do.
func (a *Socket) Port() (uint32, bool) {
	switch f := a.family(); {
	case f == afInet && a.n >= 8, f == afInet6 && a.n >= 24:
		return uint32(binary.BigEndian.Uint16(a.buf[2:])), true
	case f == afVSock && a.n >= 12:
		return binary.LittleEndian.Uint32(a.buf[4:]), true
	}
	return 0, false
}

// AppendAddress appends the address without its port: an IP address, the path of a unix
// socket (@ stands before an abstract name), the port id of a netlink socket, the hardware
// address of a packet socket or the context id of a virtual machine. It appends nothing
// where the family has no address here, or the bytes are too few.
func (a *Socket) AppendAddress(dst []byte) []byte {
	switch f := a.family(); {
	case f == afUnix && a.n > 2:
		path := a.buf[2:a.n]
		if path[0] == 0 && len(path) > 1 {
			dst, path = append(dst, '@'), path[1:]
		}
		return appendString(dst, path, maxPath)
	case f == afInet && a.n >= 8:
		return netip.AddrFrom4([4]byte(a.buf[4:8])).AppendTo(dst)
	case f == afInet6 && a.n >= 24:
		dst = netip.AddrFrom16([16]byte(a.buf[8:24])).AppendTo(dst)
		if scope := binary.LittleEndian.Uint32(a.buf[24:]); a.n >= 28 && scope != 0 {
			dst = strconv.AppendUint(append(dst, '%'), uint64(scope), 10)
		}
		return dst
	case f == afNetlink && a.n >= 8:
		return strconv.AppendUint(dst, uint64(binary.LittleEndian.Uint32(a.buf[4:])), 10)
	case f == afPacket && a.n >= 12:
		return appendHardware(dst, a.buf[12:min(a.n, 12+int(a.buf[11]))])
	case f == afVSock && a.n >= 12:
		return strconv.AppendUint(dst, uint64(binary.LittleEndian.Uint32(a.buf[8:])), 10)
	case f == afAX25 || f == afX25:
		return appendString(dst, a.buf[2:a.n], 15)
	}
	return dst
}

func appendHardware(dst, mac []byte) []byte {
	const digits = "0123456789abcdef"
	for i, c := range mac {
		if i > 0 {
			dst = append(dst, ':')
		}
		dst = append(dst, digits[c>>4], digits[c&15])
	}
	return dst
}

// Append appends the address as people write it: 192.0.2.1:443, [2001:db8::1]:443, the
// path of a unix socket; of other families their name before the address, as in "netlink
// 0" and "vsock 2:1024". An address of no more than a family is that family's name.
func (a *Socket) Append(dst []byte) []byte {
	from := len(dst)
	f := a.family()
	switch f {
	case afUnix, afInet:
	case afInet6:
		dst = append(dst, '[')
	default:
		dst = append(a.appendFamily(dst), ' ')
	}
	at := len(dst)
	if dst = a.AppendAddress(dst); len(dst) == at {
		return a.appendFamily(dst[:from])
	}
	if f == afInet6 {
		dst = append(dst, ']')
	}
	if f == afPacket {
		dst = strconv.AppendUint(append(dst, " on interface "...), uint64(binary.LittleEndian.Uint32(a.buf[4:])), 10)
	}
	if port, ok := a.Port(); ok {
		dst = strconv.AppendUint(append(dst, ':'), uint64(port), 10)
	}
	return dst
}

func (a *Socket) appendFamily(dst []byte) []byte {
	if name := a.Family(); name != "" {
		return append(dst, name...)
	}
	return append(strconv.AppendUint(append(dst, "unknown-family("...), uint64(a.family()), 10), ')')
}
