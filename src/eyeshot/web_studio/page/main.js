// The page that the server serves: asks the address that it came from.

import { ServerSource } from "./sources.js";
import { mount } from "./studio.js";

mount(document.getElementById("studio"), new ServerSource(new URL(".", location.href)));
