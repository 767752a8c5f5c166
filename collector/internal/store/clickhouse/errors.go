package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	ch "github.com/ClickHouse/clickhouse-go/v2"
)

// ErrCluster is returned where the cluster cannot answer, or does not take events: the cause says why. The same may succeed later.
var ErrCluster = errors.New("the ClickHouse cluster")

// ErrCopied is returned for a batch whose number the cluster has already, and not for its events.
var ErrCopied = errors.New("the cluster has other batches of this store: an older copy of its folder was put back, or two collectors have copies of one; nothing is stored until the newer folder is put back, or another one is begun (--store-folder)")

// passing are the codes of errors that pass by themselves, or are of one server of several.
var passing = []int32{
	159, // TIMEOUT_EXCEEDED
	202, // TOO_MANY_SIMULTANEOUS_QUERIES
	209, // SOCKET_TIMEOUT
	210, // NETWORK_ERROR
	225, // NO_ZOOKEEPER
	236, // ABORTED
	242, // TABLE_IS_READ_ONLY
	252, // TOO_MANY_PARTS
	254, // NO_ACTIVE_REPLICAS
	265, // TOO_SLOW
	285, // TOO_FEW_LIVE_REPLICAS
	286, // UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE
	289, // REPLICA_IS_NOT_IN_QUORUM
	319, // UNKNOWN_STATUS_OF_INSERT
	999, // KEEPER_EXCEPTION
}

// passes says whether another server may do what failed so, or the same one later.
func passes(err error) bool {
	var e *ch.Exception
	if errors.As(err, &e) {
		return full(e) || slices.Contains(passing, e.Code)
	}
	var n net.Error
	return errors.Is(err, errBehind) || errors.Is(err, errFollows) || errors.As(err, &n) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ch.ErrAcquireConnTimeout) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, context.DeadlineExceeded)
}

// blameless are those of passing that say nothing of the server that was asked: it waits for others, or for another collector.
var blameless = []int32{202, 252, 254, 285, 286, 289, 319}

// blames reports whether a server failed so by a fault of its own, and not at once: it hangs, or is not there.
func blames(err error) bool {
	var e *ch.Exception
	if errors.As(err, &e) {
		return passes(err) && !full(e) && !slices.Contains(blameless, e.Code)
	}
	return passes(err) && !errors.Is(err, errFollows) && !errors.Is(err, errBehind)
}

// full says whether a server's disk had no room. 18.16 says so by 243 before it merges and sends parts, and by the error of what it was about to write (75, 76, 1000, 1001) else.
func full(e *ch.Exception) bool {
	return e.Code == 243 || strings.Contains(e.Message, "No space left on device") || strings.Contains(e.Message, "errno: 28,")
}

// noRoom says whether a server's disk had no room for what failed so.
func noRoom(err error) bool { return anyException(err, full) }

// unsatisfied says whether a quorum was not reached for what failed so.
func unsatisfied(err error) bool {
	return anyException(err, func(e *ch.Exception) bool { return e.Code == 285 || e.Code == 286 || e.Code == 319 })
}

// anyException reports whether one of the servers' errors that an error consists of is such a one.
func anyException(err error, is func(*ch.Exception) bool) bool {
	if e, ok := err.(*ch.Exception); ok && is(e) { //nolint:errorlint // what it wraps is looked at below
		return true
	}
	switch x := err.(type) { //nolint:errorlint // likewise
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(x.Unwrap(), func(err error) bool { return anyException(err, is) })
	case interface{ Unwrap() error }:
		return anyException(x.Unwrap(), is)
	}
	return false
}

// explain says what to do about some errors.
func explain(err error) error {
	var e *ch.Exception
	if !errors.As(err, &e) {
		return err
	}
	hint := ""
	if full(e) {
		return fmt.Errorf("%w (the disk of a server is full)", err)
	}
	switch e.Code {
	case 192, 193, 194, 516:
		hint = "user= and password_file= of --store name who may read and write"
	case 497, 164:
		hint = "the user needs the rights to create, read, write and drop in the database"
	case 242:
		hint = "ClickHouse takes nothing without its ZooKeeper"
	case 253:
		hint = "its data was lost: copy the .sql files of another server's metadata/DATABASE, and start it: it fetches all from the others"
	case 285, 286, 319:
		hint = "fewer replicas than quorum= are there, or the answer of one is awaited"
	}
	if hint == "" {
		return err
	}
	return fmt.Errorf("%w (%s)", err, hint)
}
