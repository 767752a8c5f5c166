package terminal

import "golang.org/x/sys/unix"

// raisers are set by programs that start others with more rights than their user's:
// sudo and run0, doas, pkexec.
var raisers = []string{"SUDO_UID", "SUDO_GID", "SUDO_USER", "SUDO_COMMAND", "DOAS_USER", "PKEXEC_UID"}

// atSecure is AT_SECURE of linux/auxvec.h: the kernel sets it for programs with a
// set-user-ID or set-group-ID bit, or capabilities of their own.
const atSecure = 23

// raised says whether this process may do more than the person at the terminal may.
// What cannot be found out counts as yes.
func raised(getenv func(string) string) bool {
	for _, name := range raisers {
		if getenv(name) != "" {
			return true
		}
	}
	ruid, euid, suid := unix.Getresuid()
	rgid, egid, sgid := unix.Getresgid()
	if ruid != euid || ruid != suid || rgid != egid || rgid != sgid {
		return true
	}
	aux, err := unix.Auxv()
	if err != nil {
		return true
	}
	for _, v := range aux {
		if v[0] == atSecure && v[1] != 0 {
			return true
		}
	}
	return euid != 0 && capable()
}

// capable says whether this process has capabilities that it can use, or can hand on.
func capable() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return true
	}
	return data[0].Effective|data[1].Effective|data[0].Permitted|data[1].Permitted != 0
}
