package packet

import "strings"

const sharePrefix = "$share/"

func isShared[T string | []byte](filter T) bool {
	return len(filter) >= len(sharePrefix) && string(filter[:len(sharePrefix)]) == sharePrefix
}

// ShareOf takes the filter of a shared subscription apart: "$share/group/rest".
// shared says that it is one; whether it is a valid one, FilterValid says.
// Without the prefix rest is filter.
func ShareOf(filter string) (group, rest string, shared bool) {
	if !isShared(filter) {
		return "", filter, false
	}
	group, rest, _ = strings.Cut(filter[len(sharePrefix):], "/")
	return group, rest, true
}

// FilterValid says whether a string that Parse let through is a topic filter
// by MQTT 5, 4.7 and 4.8.2: not empty, "#" alone in its level and last, "+"
// alone in its level; and when it is shared, a group without wildcards and a
// filter behind it. A filter that is not gets CodeTopicFilter in SUBACK; the
// others in the packet, and the connection, go on.
func FilterValid(filter string) bool {
	group, rest, shared := ShareOf(filter)
	if shared && (group == "" || strings.ContainsAny(group, "+#")) {
		return false
	}
	if rest == "" || filter == "$share" { // the latter cannot be meant
		return false
	}
	for {
		level, below, more := strings.Cut(rest, "/")
		if len(level) > 1 && strings.ContainsAny(level, "+#") || level == "#" && more {
			return false
		}
		if !more {
			return true
		}
		rest = below
	}
}
