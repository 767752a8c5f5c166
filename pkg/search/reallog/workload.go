package reallog

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// workloadEnv makes a test binary run the workload instead of its tests: the
// rules name the program (-F exe=), so it must be one of our own.
const workloadEnv = "AUDITFLEET_REALLOG"

// Main runs the part of the workload that the environment asks for and reports
// whether it did. A test package that calls Record calls it first in TestMain.
func Main() bool {
	part := os.Getenv(workloadEnv)
	if part == "" {
		return false
	}
	dir, err := os.Getwd()
	if err != nil {
		return true
	}
	switch part {
	case "abend":
		runtime.LockOSThread()
		_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
		_ = unix.Kill(os.Getpid(), unix.SIGSEGV)
		time.Sleep(time.Second)
	case "seccomp":
		seccompKill()
	case "netns":
		promiscuous()
	case "denied":
		denied(dir)
	default:
		files(dir)
		sockets(dir)
		processes(dir)
	}
	return true
}

// names are file names that the kernel writes quoted and ones it writes in hex.
var names = []string{
	"plain", "with space", `quo"te`, "apo'strophe", "ünï-✓", "tab\there", "new\nline", "-dash",
	"name=evil uid=0", "DEADBEEF", "(null)", "[bracket]", "comma,colon:", "\x7fdel", "back\\slash",
}

func files(dir string) {
	for _, n := range names {
		_ = os.WriteFile(n, []byte("x"), 0o600)
		_ = os.WriteFile("./"+n, []byte("y"), 0o600)
		_ = os.Rename(n, n+".moved")
		_ = os.Chmod(n+".moved", 0o640)
		_ = os.Remove(filepath.Join(dir, n+".moved"))
	}
	_ = os.Mkdir("sub", 0o700)
	_ = os.WriteFile("sub/inner", nil, 0o600)
	_ = os.Link("sub/inner", "sub/hard")
	_ = os.Symlink("sub/inner", "soft")
	_ = os.WriteFile("sub/../dotdot", nil, 0o600)
	if os.Chdir("sub") == nil {
		_ = os.WriteFile("../from-sub", nil, 0o600)
		_, _ = os.ReadFile("./nothing-here")
		_ = os.Chdir("..")
	}
	_ = unix.Setxattr("dotdot", "user.k", []byte("v"), 0)
	_ = os.Truncate("dotdot", 10)
	_ = os.Lchown("dotdot", 1, 1)
	_, _ = os.ReadFile(filepath.Join(dir, "missing"))
	_ = os.RemoveAll("sub")
	if fd, err := unix.Openat2(unix.AT_FDCWD, "dotdot", &unix.OpenHow{Flags: unix.O_RDONLY}); err == nil {
		if m, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE); err == nil {
			_ = unix.Munmap(m)
		}
		_ = unix.Close(fd)
	}
}

func sockets(dir string) {
	sock := filepath.Join(dir, "sock et")
	if l, err := net.Listen("unix", sock); err == nil {
		if c, err := net.Dial("unix", sock); err == nil {
			_ = c.Close()
		}
		_ = l.Close()
	}
	_, _ = net.Dial("unix", filepath.Join(dir, "no-such.sock"))
	if l, err := net.Listen("unix", "@auditfleet-abstract"); err == nil {
		_ = l.Close()
	}
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
			_ = c.Close()
		}
		_ = l.Close()
		if u, err := net.ListenPacket("udp", addr); err == nil {
			_, _ = u.WriteTo([]byte("x"), u.LocalAddr())
			_ = u.Close()
		}
	}
	if fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT); err == nil {
		_ = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1})
		_ = unix.Close(fd)
	}
	if p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0); err == nil {
		_ = unix.Close(p[0])
		_ = unix.Close(p[1])
	}
	var p [2]int
	if unix.Pipe2(p[:], 0) == nil {
		_ = unix.Close(p[0])
		_ = unix.Close(p[1])
	}
}

func processes(dir string) {
	for _, argv := range [][]string{{"true"}, {"echo", "a b", `q"q`, "ü"}, {"false"}, {"ls", "/nonexistent dir"}} {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Dir = dir
		_ = cmd.Run()
	}
	if sleep := exec.Command("sleep", "5"); sleep.Start() == nil {
		_ = sleep.Process.Kill()
		_ = sleep.Wait()
	}
	name := []byte("/auditfleet-mq\x00")
	if fd, _, e := unix.Syscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(&name[0])), unix.O_CREAT|unix.O_RDWR, 0o600, 0, 0, 0); e == 0 {
		_ = unix.Close(int(fd))
		_, _, _ = unix.Syscall(unix.SYS_MQ_UNLINK, uintptr(unsafe.Pointer(&name[0])), 0, 0)
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&hdr, &data[0]) == nil {
		runtime.LockOSThread()
		_ = unix.Capset(&hdr, &data[0])
		runtime.UnlockOSThread()
	}
	for _, part := range []string{"abend", "seccomp", "netns"} {
		child(dir, part, nil)
	}
	for i, uid := range []uint32{1000, 1001} {
		child(dir, "denied", &syscall.Credential{Uid: uid, Gid: uid + 100, Groups: []uint32{uint32(i)}})
	}
}

func child(dir, part string, cred *syscall.Credential) {
	exe, err := os.Executable()
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), workloadEnv+"="+part)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	if cred != nil {
		// The login uid is inherited; it can be set by writing the thread's own.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		path := "/proc/thread-self/loginuid"
		_ = os.WriteFile(path, []byte(strconv.Itoa(int(cred.Uid))), 0)
		defer func() { _ = os.WriteFile(path, []byte("4294967295"), 0) }()
	}
	_ = cmd.Run()
}

func denied(dir string) {
	_, _ = os.ReadFile(filepath.Join(dir, "secret"))
	_ = os.WriteFile(filepath.Join(dir, "secret"), nil, 0o600)
	_ = os.Remove(filepath.Join(dir, "secret"))
	_ = os.WriteFile(filepath.Join(dir, "open", "mine-"+strconv.Itoa(os.Getuid())), nil, 0o644)
	_ = unix.Setuid(0)
	_ = unix.Kill(1, unix.SIGTERM)
}

// seccompKill makes the kernel kill this process for a system call it has
// forbidden itself.
func seccompKill() {
	runtime.LockOSThread()
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // seccomp_data.nr
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_GETPPID, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_KILL_PROCESS},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog)))
	if e == 0 {
		_ = unix.Getppid()
	}
}

func promiscuous() {
	runtime.LockOSThread()
	if unix.Unshare(unix.CLONE_NEWNET) != nil {
		return
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return
	}
	defer func() { _ = unix.Close(fd) }()
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_PROMISC)
	_ = unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}
