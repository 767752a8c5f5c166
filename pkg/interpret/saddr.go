package interpret

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strconv"
)

// maxSockAddr is more than a struct sockaddr_storage holds.
const maxSockAddr = 256

// maxPath is sizeof sun_path.
const maxPath = 108

// ax25Call is the length of an AX.25 address.
const ax25Call = 7

// Address families with addresses of their own here.
const (
	afUnix    = 1
	afInet    = 2
	afAX25    = 3
	afATMPVC  = 8
	afX25     = 9
	afInet6   = 10
	afNetlink = 16
)

// appendSockAddr appends what the hex of a struct sockaddr says.
func appendSockAddr(dst, v []byte) []byte {
	digits := HexLen(v)
	n := len(v) / 2
	if digits < 2 {
		return append(append(append(dst, "malformed-host("...), v...), ')')
	}
	var buf [maxSockAddr]byte
	a := buf[:min(n, len(buf))]
	for i := 0; i < min((digits+1)/2, len(buf)); i++ {
		buf[i] = HexByte(v, 2*i) // half a byte at the end counts for text only
	}
	family := binary.LittleEndian.Uint16(buf[:])
	name, ok := families.lookup(uint64(family))
	if !ok {
		dst = append(dst, "unknown-family("...)
		return append(strconv.AppendUint(dst, uint64(family), 10), ')')
	}
	dst = append(append(append(dst, "{ saddr_fam="...), name...), ' ')
	switch family {
	case afUnix:
		return appendUnix(dst, a, buf[:])
	case afInet:
		return appendInet(dst, a)
	case afInet6:
		return appendInet6(dst, a)
	case afAX25:
		dst = appendString(append(dst, "call="...), buf[2:], ax25Call)
		if bytes.IndexByte(buf[2:2+ax25Call], 0) < 0 {
			dst = append(dst, " }"...) // the stock tool's text, too, ends at a NUL
		}
		return dst
	case afATMPVC:
		return append(strconv.AppendUint(append(dst, "int="...), uint64(binary.LittleEndian.Uint16(buf[4:])), 10), " }"...)
	case afX25:
		return append(appendString(append(dst, "laddr="...), buf[2:], 15), " }"...)
	case afNetlink:
		if len(a) < 12 {
			return append(dst, "len too short }"...)
		}
		dst = strconv.AppendUint(append(dst, "nlnk-fam="...), uint64(family), 10)
		dst = strconv.AppendUint(append(dst, " nlnk-pid="...), uint64(binary.LittleEndian.Uint32(a[4:])), 10)
		return append(dst, " }"...)
	}
	return append(dst, "(unsupported) }"...)
}

// appendString appends a C string of at most limit bytes.
func appendString(dst, s []byte, limit int) []byte {
	s = s[:min(limit, len(s))]
	if i := bytes.IndexByte(s, 0); i >= 0 {
		s = s[:i]
	}
	return append(dst, s...)
}

func appendUnix(dst, a, all []byte) []byte {
	switch {
	case len(a) == 2: // a family and no name, as of a socket that was never bound
		return append(dst, "unnamed socket }"...)
	case len(a) < 4:
		return append(dst, "sockaddr len too short }"...)
	}
	path := all[2 : 2+maxPath]
	if path[0] == 0 { // abstract
		path = path[1:]
	}
	return append(appendString(append(dst, "path="...), path, len(path)), " }"...)
}

func appendInet(dst, a []byte) []byte {
	if len(a) < 16 {
		return append(dst, "sockaddr len too short }"...)
	}
	dst = netip.AddrFrom4([4]byte(a[4:8])).AppendTo(append(dst, "laddr="...))
	return appendPort(dst, a)
}

func appendInet6(dst, a []byte) []byte {
	if len(a) < 28 {
		return append(dst, "sockaddr6 len too short }"...)
	}
	ip := [16]byte(a[8:24])
	dst = appendIPv6(append(dst, "laddr="...), ip)
	if scope := binary.LittleEndian.Uint32(a[24:]); scope != 0 {
		dst = strconv.AppendUint(append(dst, '%'), uint64(scope), 10)
	}
	return appendPort(dst, a)
}

// appendIPv6 appends ip as the C library writes it: old "IPv4-compatible"
// addresses, too, end in dotted numbers.
func appendIPv6(dst []byte, ip [16]byte) []byte {
	if bytes.Count(ip[:12], []byte{0}) == 12 && (ip[12] != 0 || ip[13] != 0) {
		return netip.AddrFrom4([4]byte(ip[12:])).AppendTo(append(dst, "::"...))
	}
	return netip.AddrFrom16(ip).AppendTo(dst)
}

func appendPort(dst, a []byte) []byte {
	dst = strconv.AppendUint(append(dst, " lport="...), uint64(binary.BigEndian.Uint16(a[2:])), 10)
	return append(dst, " }"...)
}
