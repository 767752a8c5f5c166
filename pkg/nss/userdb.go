package nss

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// maxReply bounds a reply: a group's record has all its members.
const maxReply = 4 << 20

// userdbReply is a varlink reply of io.systemd.UserDatabase
// (https://systemd.io/USER_GROUP_API/).
type userdbReply struct {
	Error      string `json:"error"`
	Parameters struct {
		Record struct {
			UserName  string  `json:"userName"`
			UID       *uint32 `json:"uid"`
			GroupName string  `json:"groupName"`
			GID       *uint32 `json:"gid"`
		} `json:"record"`
	} `json:"parameters"`
}

// askUserdb asks systemd-userdb's socket, which needs no process.
func (d *directory) askUserdb(database int, keys []key) ([]answer, error) {
	dialer := net.Dialer{Timeout: d.cfg.limit}
	conn, err := dialer.DialContext(d.ctx, "unix", d.cfg.socket)
	if err != nil {
		return nil, fmt.Errorf("ask systemd-userdb: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(d.cfg.limit)); err != nil {
		return nil, fmt.Errorf("ask systemd-userdb: %w", err)
	}
	in := bufio.NewReader(conn)
	answers := make([]answer, len(keys))
	for i, k := range keys {
		if answers[i], err = askRecord(conn, in, database, k); err != nil {
			return nil, fmt.Errorf("ask systemd-userdb: %w", err)
		}
	}
	return answers, nil
}

func askRecord(out io.Writer, in *bufio.Reader, database int, k key) (answer, error) {
	method, byID, byName := "io.systemd.UserDatabase.GetUserRecord", "uid", "userName"
	if database == group {
		method, byID, byName = "io.systemd.UserDatabase.GetGroupRecord", "gid", "groupName"
	}
	p := map[string]any{"service": "io.systemd.Multiplexer"}
	if k.name != "" {
		p[byName] = k.name
	} else {
		p[byID] = k.id
	}
	text, err := json.Marshal(map[string]any{"method": method, "parameters": p})
	if err != nil {
		return answer{}, err
	}
	if _, err := out.Write(append(text, 0)); err != nil {
		return answer{}, err
	}
	var reply userdbReply
	if text, err = readReply(in); err != nil {
		return answer{}, err
	}
	if err := json.Unmarshal(text, &reply); err != nil {
		return answer{}, err
	}
	if reply.Error == "io.systemd.UserDatabase.NoRecordFound" {
		return answer{state: absent}, nil
	}
	name, id := reply.Parameters.Record.UserName, reply.Parameters.Record.UID
	if database == group {
		name, id = reply.Parameters.Record.GroupName, reply.Parameters.Record.GID
	}
	if reply.Error != "" || id == nil || !validName(name) || k.name == "" && *id != k.id {
		return answer{}, errors.New("no such record, and no word that there is none: " + reply.Error)
	}
	return answer{found, *id, name}, nil
}

// readReply reads up to the NUL that ends a message.
func readReply(in *bufio.Reader) ([]byte, error) {
	var text []byte
	for {
		part, err := in.ReadSlice(0)
		if len(text)+len(part) > maxReply {
			return nil, errors.New("the reply has no end")
		}
		text = append(text, part...)
		switch {
		case err == nil:
			return text[:len(text)-1], nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}
