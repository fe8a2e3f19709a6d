package packet

// seeds returns well-formed packets of every type that a client sends in a
// version, small, and with everything in them that may be.
func seeds(version byte) [][]byte {
	none := []byte{}
	if version == version5 {
		none = props()
		return append(plain(version, none), rich()...)
	}
	return plain(version, none)
}

// plain returns packets that every version has.
func plain(version byte, none []byte) [][]byte {
	name := "MQTT"
	if version == version31 {
		name = "MQIsdp"
	}
	v := int(version)
	return [][]byte{
		pk(0x10, name, v, 0x02, u16(60), none, "dev"),
		pk(0x10, name, v, 0x02, u16(0), none, ""),
		pk(0x10, name, v, 0x00, u16(60), none, "é"),
		pk(0x10, name, v, 0x82, u16(60), none, "d", "user"),
		pk(0x10, name, v, 0xc2, u16(60), none, "d", "u", "p"),
		pk(0x10, name, v, 0xee, u16(60), none, "d", none, "w/t", "gone", "u", "p"),
		pk(0x10, name, v, 0x36, u16(60), none, "d", none, "w", ""),
		pk(0x30, "a/b", none, []byte("hello")),
		pk(0x31, "t", none),
		pk(0x32, "a/ü", u16(7), none, []byte("hello")),
		pk(0x3a, "t", u16(0xffff), none, []byte("x")),
		pk(0x35, "t", u16(256), none, []byte{0, 0xff}),
		pk(0x3d, "t", u16(1), none),
		pk(0x40, u16(1)),
		pk(0x50, u16(0xffff)),
		pk(0x62, u16(2)),
		pk(0x70, u16(3)),
		pk(0x82, u16(1), none, "a/+/#", 1),
		pk(0x82, u16(9), none, "a", 0, "$share/g/b", 2, "+", 1),
		pk(0xa2, u16(1), none, "a/b"),
		pk(0xa2, u16(2), none, "a", "#", "$share/g/b"),
		{0xc0, 0},
		{0xe0, 0},
	}
}

// rich returns packets with properties.
func rich() [][]byte {
	user := join(0x26, "k", "v", 0x26, "k", "")
	message := join(0x01, 1, 0x02, u32(9), 0x03, "text", 0x08, "re/ply", 0x09, "id")
	return [][]byte{
		pk(0x10, "MQTT", 5, 0x02, u16(60), props(0x11, u32(0xffffffff), 0x21, u16(1), 0x27, u32(1), 0x22, u16(10)), "d"),
		pk(0x10, "MQTT", 5, 0x42, u16(60), props(0x19, 1, 0x17, 0, 0x15, "m", 0x16, "data", user), "d", "p"),
		pk(0x10, "MQTT", 5, 0x06, u16(60), props(), "d", props(0x18, u32(5), message, user), "w", "gone"),
		pk(0x30, "t", props(message, user), []byte("x")),
		pk(0x32, "t", u16(1), props(0x23, u16(1)), []byte("x")),
		pk(0x34, "", u16(1), props(0x23, u16(9), 0x02, u32(0)), []byte("x")),
		pk(0x30, "t", props(0x09, ""), []byte("x")),
		pk(0x40, u16(1), 0x10),
		pk(0x40, u16(1), 0x80, props()),
		pk(0x50, u16(1), 0x97, props(0x1f, "full", user)),
		pk(0x62, u16(1), 0x92),
		pk(0x62, u16(1), 0x00, props(0x1f, "")),
		pk(0x70, u16(1), 0x92, props(user)),
		pk(0x82, u16(1), props(0x0b, []byte{0xff, 0xff, 0xff, 0x7f}, user), "a/#", 0x2e, "b", 0x11),
		pk(0x82, u16(1), props(0x0b, 1), "$share/g/#", 0x1a),
		pk(0xa2, u16(1), props(user), "a"),
		pk(0xe0, 0x04),
		pk(0xe0, 0x00, props()),
		pk(0xe0, 0x81, props(0x11, u32(7), 0x1f, "why", user)),
		pk(0xf0, 0x18, props(0x15, "m", 0x16, "data")),
		pk(0xf0, 0x19, props(0x15, "m", 0x1f, "why", user)),
	}
}

// fromServer returns packets that only a server sends, in any version.
func fromServer() [][]byte {
	return [][]byte{
		pk(0x20, 0, 0), pk(0x20, 1, 0, props(0x21, u16(9))), pk(0x90, u16(1), 0), pk(0x90, u16(1), props(), 0),
		pk(0xb0, u16(1)), pk(0xb0, u16(1), props(), 0),
		{0xd0, 0},
		pk(0xf0, 0, props(0x15, "m")),
	}
}
