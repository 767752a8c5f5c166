package tables

import "sort"

// uringOps are the audited operations of include/uapi/linux/io_uring.h (enum io_uring_op),
// by number. An operation whose entry in the kernel's io_uring/opdef.c has audit_skip set is
// not among them: no record can name it.
var uringOps = [...]struct {
	number int
	name   string
}{
	{9, "sendmsg"}, {10, "recvmsg"}, {13, "accept"}, {16, "connect"}, {17, "fallocate"}, {18, "openat"},
	{19, "close"}, {28, "openat2"}, {34, "shutdown"}, {35, "renameat"}, {36, "unlinkat"}, {37, "mkdirat"},
	{38, "symlinkat"}, {39, "linkat"}, {40, "msg_ring"}, {41, "fsetxattr"}, {42, "setxattr"},
	{43, "fgetxattr"}, {44, "getxattr"}, {46, "uring_cmd"}, {48, "sendmsg_zc"}, {50, "waitid"},
	{51, "futex_wait"}, {52, "futex_wake"}, {53, "futex_waitv"}, {54, "fixed_fd_install"},
	{55, "ftruncate"}, {56, "bind"}, {57, "listen"}, {64, "uring_cmd128"},
}

// URingOps returns the numbers of the io_uring operations that are audited, sorted.
func URingOps() (numbers []int) {
	for _, op := range uringOps {
		numbers = append(numbers, op.number)
	}
	return numbers
}

// URingOpName returns the name of an io_uring operation, as auditctl -S has it.
func URingOpName(number int) (name string, ok bool) {
	i := sort.Search(len(uringOps), func(i int) bool { return uringOps[i].number >= number })
	if i < len(uringOps) && uringOps[i].number == number {
		return uringOps[i].name, true
	}
	return "", false
}
