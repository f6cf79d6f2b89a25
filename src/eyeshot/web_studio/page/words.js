// What the page says, in English and Chinese. {0}, {1} stand for values.

const WORDS = {
  en: {
    network: "Network", look: "Look", playground: "Kernel playground", picture: "Picture",
    layers: "{0} layers", parameters: "{0} parameters", operations: "{0} multiply-adds",
    colorBy: "Color by", nothing: "nothing", field: "field", cost: "multiply-adds", memory: "memory",
    parametersOf: "parameters", dead: "share of dead channels", findings: "findings",
    sees: "sees {0}", seesAll: "sees everything", wholeImage: "whole image", channel: "channel",
    channels: "channels", mapsOf: "{0} maps of {1}", numbersOf: "{0} numbers", allMaps: "All maps",
    deadCount: "{0} dead", deadChannels: "dead: channel {0}", deadTitle: "dead channels",
    deadHere: "channel {0}: 0 everywhere in this picture", deadAlways: "channel {0}: 0 everywhere, for every picture: the weights leave only a constant",
    deadHereCure: "another picture may wake it: look at more pictures before you remove it", deadAlwaysCure: "remove it here and in the layers that read it",
    chooseUnit: "No unit is chosen. Click a map, or press an arrow key.", noUnitThere: "No unit is chosen: {0} has none at the same place.",
    unit: "Unit", noUnit: "Click a map to see what that unit sees, and the sum behind its number.",
    noUnitMore: "Or click the picture: the unit above that pixel is chosen.",
    whatItSees: "What it sees", theSum: "The sum", rows: "rows {0}", columns: "columns {0}", and: "and",
    padding: "padding", touches: "It reaches {0} beyond the picture: zeros or other padding stand there.",
    above: "{0} above", below: "{0} below", left: "{0} left", right: "{0} right",
    noPadding: "All of it lies inside the picture.", effective: "Show what really moves it",
    effectiveLegend: "size of the gradient at each pixel", effectiveHint: "The size of the gradient at each pixel: within the box, most of it often lies near the middle.",
    patch: "input", kernel: "kernel", product: "sum", bias: "bias", total: "total", others: "{0} more",
    showAll: "show all {0}", rest: "the other {0}", ofNetwork: "the network's own value: {0}",
    rule_sum: "The numbers at this place, added up.", rule_sum_kernel: "Each input channel's patch times its kernel, added up.",
    rule_sum_weight: "Each input number times its weight, added up.", rule_relu_negative: "ReLU: {0} is negative, so 0.",
    rule_relu_positive: "ReLU: {0} is not negative, so it stays.", rule_max: "The largest of the cells.",
    rule_min: "The smallest of the cells.", rule_mean: "The cells added up, divided by {0}.",
    rule_product: "All numbers multiplied.", rule_value: "The operator's value for this number.",
    rule_copy: "A copy of one number.", why: "Why?", whyHint: "Follow the largest contributions back to a pixel",
    whyTitle: "Why this value", whyEnd: "It ends here: {0}", back: "Back", input: "input",
    predicted: "The answer", draw: "Draw a digit", clear: "Clear", drawHint: "Draw with the mouse or a finger; every layer answers.",
    mute: "Mute channel", unmute: "Unmute", edit: "Edit kernel", edits: "Changes", reset: "Undo all",
    difference: "Show the difference", muted: "{0} [{1}] muted", changed: "{0} [{1}, {2}] changed",
    save: "Save", savePng: "This view as PNG", saveSvg: "This view as SVG", saveNetwork: "The network as SVG", saveCsv: "This map as CSV", saveSumSvg: "This sum as SVG", saveSum: "This sum as CSV", copyLink: "Copy the address",
    copied: "Copied", light: "Light", darkTheme: "Dark", theme: "Theme", help: "Keys", close: "Close",
    fit: "Fit", zoomIn: "Zoom in", zoomOut: "Zoom out", error: "That did not work", noRun: "The network does not run at this size",
    noMaps: "no maps", computing: "computing…", cancel: "Cancel", test: "test pattern",
    operation: "Operation", stride: "stride", dilation: "dilation", size: "size", scale: "scale", mode: "padding with",
    conv: "convolution", transpose: "transposed convolution", pool: "pooling", nearest: "nearest neighbor", bilinear: "bilinear",
    zeros: "zeros", reflect: "reflection", replicate: "the edge", circular: "the other side", largest: "the largest", mean: "the mean",
    step: "Step {0} of {1}", play: "Play", pause: "Pause", inputMatrix: "Input", kernelMatrix: "Kernel", output: "Output",
    padded: "Padded", inserted: "Zeros inserted", examples: "Examples", reachTitle: "What this pixel reaches",
    reach: "What this pixel reaches", pixel: "pixel", notInFile: "Not in this file. Filled dots mark the units that are.",
    fileHolds: "This file holds the sums of {0} units; filled dots mark them.", fileLeft: " {0} more were left out to keep it small: eyeshot studio has them all, and --unit names others for a file.",
    strongestUnit: "strongest unit", keysList: "← ↑ → ↓ move the unit|[ ] layer before, after|, . channel before, after|+ − 0 zoom in, out, fit|Backspace one step back|w why|m mute the channel|d difference|b the other network, both compared|e what really moves it|p what each pixel adds|r what the pixel there reaches|k playground|l light, dark|? this list",
    prediction: "prediction", mistakes: "error", truth: "truth", wrong: "wrong", right_: "right", unlabeled: "unlabeled",
    wrongOf: "wrong: {0} of {1} labeled pixels in view", training: "Training", epoch: "epoch {0} of {1}", overlay: "Overlay", opacity: "opacity",
    findingsTitle: "Findings", noFindings: "No findings", where: "at", cure: "What to do", range: "Scale", own: "each map", shared: "all maps",
    from: "from", layerNote: "step", chosenPixel: "row {0}, column {1}",
    large: "Zoom in to compute these maps: {0} megapixels are in view, and at most {1} are computed at once.",
    computeAnyway: "Compute anyway", aroundView: "around the middle of the view",
    paint: "Paint", paintHint: "Paint on the picture; every layer answers", brush: "Brush size", pixels: "{0} pixels", brightest: "brightest", darkest: "darkest", meanTone: "mean", meanKernel: "Mean", readAs: "Why {0}?",
    compare: "Compare", differenceOf: "difference", compared: "beside {0}: {1} of {2} layers can be compared",
    noTwin: "{0} has no layer {1}", otherShape: "in {0}, {1} is {2}", bothSums: "Both sums", termsDiffer: "The two sums have different terms.",
    differOf: "different answers: {0} of {1} pixels in view", differs: "different answers", agrees: "the same answer",
    weight: "weight", shareHint: "From each unit to the one unit whose number times its weight adds most, back to a pixel. The share is what that next unit adds, of all that pushes in the same direction, bias included.",
    whyUnit: "unit", whyValue: "value", whyShare: "next adds",
    evidence: "What each pixel adds", evidenceHint: "Each pixel's brightness above black, times the gradient: with the rest they add up to the number.",
    againstNext: "against the runner-up", againstNone: "this score alone", againstOne: "against {0}", adds: "adds",
    leads: "{0} leads {1} by {2}", isBehind: "{0} is behind {1} by {2}", scoreOf: "{0}: {1}", thirds: "Added by each third of the picture",
    raises: "speaks for {0}", lowers: "speaks against {0}", mostFor: "Pixels for {0}: {1}.", mostLower: "Pixels against {0}: {1}.",
    raisesUnit: "raises this unit", lowersUnit: "lowers this unit", mostForUnit: "Pixels that raise it: {1}.", mostLowerUnit: "Pixels that lower it: {1}.",
    speakFor: "speak for {0}", speakAgainst: "speak against {0}", speakForUnit: "raise this unit", speakAgainstUnit: "lower this unit", outputOf: "output {0}",
    pixelsOpposed: "All pixels together {0} ({1}); the rest ({3}) decides: {2}.", restExact: "biases and an empty picture", restCurved: "biases, an empty picture and what is curved",
    dimmed: "The picture is gray and dark so that the colors can be seen. Full color: {0} or more.", blockAdds: "{0} pixels around it {1}",
    dimmedBlocks: "The picture is gray and dark so that the colors can be seen. Each color is the sum of {1} pixels, full at {0} or more; zoom in for single pixels.",
    pixelsAndRest: "All pixels {0}, the rest {1}.",
    sharesExact: "Exact: near this picture the network is a weighted sum of its pixels. The rest is what the biases and an empty picture give; a black pixel adds nothing.",
    sharesCurved: "Gradient times input: this network is not a weighted sum of its pixels here, so the rest also holds what is curved.",
    sharesUnknown: "Gradient times input: one of the operators has no second derivative, so it is not known whether the rest holds more than biases.",
    at_top_left: "top left", at_top_middle: "top middle", at_top_right: "top right", at_middle_left: "middle left", at_middle: "middle", at_middle_right: "middle right",
    at_bottom_left: "bottom left", at_bottom_middle: "bottom middle", at_bottom_right: "bottom right",
    someRandom: "{0} of {1} weights are random numbers: this network is untrained, so do not trust its answer. Give its weights at the start:",
    allRandom: "All {1} weights are random numbers: this network is untrained, so its answer means nothing. Give its weights at the start:",
    comma: ", ", colon: ": ",
  },
  zh: {
    network: "网络", look: "观察", playground: "卷积核演练", picture: "图像",
    layers: "{0} 层", parameters: "{0} 个参数", operations: "{0} 次乘加",
    colorBy: "着色", nothing: "无", field: "感受野", cost: "乘加次数", memory: "内存",
    parametersOf: "参数", dead: "死通道比例", findings: "问题",
    sees: "看到 {0}", seesAll: "看到全部", wholeImage: "整幅图像", channel: "通道",
    channels: "个通道", mapsOf: "{0} 张特征图，大小 {1}", numbersOf: "{0} 个数", allMaps: "全部特征图",
    deadCount: "{0} 个死通道", deadChannels: "死通道：第 {0} 个", deadTitle: "死通道",
    deadHere: "第 {0} 个通道：在这幅图像中处处为 0", deadAlways: "第 {0} 个通道：对任何图像都处处为 0，权重只留下一个常数",
    deadHereCure: "换一幅图像可能就不为 0：删除之前先看更多图像", deadAlwaysCure: "从这一层和读取它的各层中删除",
    chooseUnit: "没有选中单元。请点击特征图，或按方向键。", noUnitThere: "没有选中单元：{0} 在同一位置没有单元。",
    unit: "单元", noUnit: "点击特征图，查看该单元看到什么，以及它的数值由哪些项相加而成。",
    noUnitMore: "也可以点击图像：选中该像素对应的单元。",
    whatItSees: "它看到什么", theSum: "求和", rows: "行 {0}", columns: "列 {0}", and: "和",
    padding: "填充", touches: "它超出图像（{0}）：那里是零或其他填充。",
    above: "上方 {0}", below: "下方 {0}", left: "左侧 {0}", right: "右侧 {0}",
    noPadding: "全部位于图像之内。", effective: "显示真正影响它的像素",
    effectiveLegend: "每个像素处梯度的大小", effectiveHint: "每个像素处梯度的大小：方框之内，往往只有中间部分影响较大。",
    patch: "输入", kernel: "卷积核", product: "部分和", bias: "偏置", total: "总和", others: "另有 {0} 项",
    showAll: "全部 {0} 项", rest: "其余 {0} 项", ofNetwork: "网络自身的值：{0}",
    rule_sum: "同一位置的各个数相加。", rule_sum_kernel: "每个输入通道的局部块乘以卷积核，再相加。",
    rule_sum_weight: "每个输入数乘以它的权重，再相加。", rule_relu_negative: "ReLU：{0} 是负数，所以为 0。",
    rule_relu_positive: "ReLU：{0} 不是负数，保持不变。", rule_max: "各单元格中的最大值。",
    rule_min: "各单元格中的最小值。", rule_mean: "各单元格之和除以 {0}。",
    rule_product: "所有数相乘。", rule_value: "算子对这个数给出的值。",
    rule_copy: "某一个数的副本。", why: "为什么？", whyHint: "沿最大的贡献一直追溯到像素",
    whyTitle: "为什么是这个值", whyEnd: "到此为止：{0}", back: "返回", input: "输入",
    predicted: "回答", draw: "写一个数字", clear: "清除", drawHint: "用鼠标或手指书写，每一层都会实时响应。",
    mute: "关闭通道", unmute: "恢复通道", edit: "修改卷积核", edits: "改动", reset: "全部撤销",
    difference: "显示差异", muted: "{0} [{1}] 已关闭", changed: "{0} [{1}, {2}] 已修改",
    save: "保存", savePng: "将此视图存为 PNG", saveSvg: "将此视图存为 SVG", saveNetwork: "将网络存为 SVG", saveCsv: "将此特征图存为 CSV", saveSumSvg: "将此求和存为 SVG", saveSum: "将此求和存为 CSV", copyLink: "复制网址",
    copied: "已复制", light: "浅色", darkTheme: "深色", theme: "主题", help: "按键", close: "关闭",
    fit: "适应窗口", zoomIn: "放大", zoomOut: "缩小", error: "没有成功", noRun: "网络无法在此尺寸下运行",
    noMaps: "没有特征图", computing: "计算中…", cancel: "取消", test: "测试图案",
    operation: "运算", stride: "步幅", dilation: "空洞", size: "大小", scale: "倍数", mode: "填充方式",
    conv: "卷积", transpose: "转置卷积", pool: "池化", nearest: "最近邻", bilinear: "双线性",
    zeros: "零", reflect: "镜像", replicate: "边缘的副本", circular: "对侧的内容", largest: "最大值", mean: "平均值",
    step: "第 {0} 步，共 {1} 步", play: "播放", pause: "暂停", inputMatrix: "输入", kernelMatrix: "卷积核", output: "输出",
    padded: "已填充", inserted: "已插入零", examples: "示例", reachTitle: "这个像素影响什么",
    reach: "这个像素影响什么", pixel: "像素", notInFile: "此文件中没有。实心点标出已包含的单元。",
    fileHolds: "此文件包含 {0} 个单元的求和，用实心点标出。", fileLeft: "为了控制文件大小，另有 {0} 个没有写入：运行 eyeshot studio 可以看到全部，写文件时可以用 --unit 指定。",
    strongestUnit: "最强的单元", keysList: "← ↑ → ↓ 移动单元|[ ] 上一层，下一层|, . 上一通道，下一通道|+ − 0 放大，缩小，适应|Backspace 返回一步|w 为什么|m 关闭通道|d 差异|b 另一个网络，两者之差|e 真正影响它的像素|p 每个像素的贡献|r 该处像素影响什么|k 卷积核演练|l 浅色，深色|? 本列表",
    prediction: "预测", mistakes: "误差", truth: "真值", wrong: "错误", right_: "正确", unlabeled: "未标注",
    wrongOf: "错误：视野内 {1} 个已标注像素的 {0}", training: "训练", epoch: "第 {0} 轮，共 {1} 轮", overlay: "叠加", opacity: "不透明度",
    findingsTitle: "发现的问题", noFindings: "没有问题", where: "位于", cure: "怎么办", range: "颜色刻度", own: "各张特征图", shared: "所有特征图",
    from: "来自", layerNote: "步", chosenPixel: "第 {0} 行，第 {1} 列",
    large: "放大后才计算特征图：当前视野有 {0} 百万像素，一次最多计算 {1} 百万像素。",
    computeAnyway: "仍然计算", aroundView: "视野中央附近",
    paint: "涂画", paintHint: "在图像上涂画，每一层都会实时响应", brush: "笔刷大小", pixels: "{0} 像素", brightest: "最亮", darkest: "最暗", meanTone: "平均", meanKernel: "均值", readAs: "为什么是 {0}？",
    compare: "比较", differenceOf: "差异", compared: "与 {0} 对照：{2} 层中有 {1} 层可以比较",
    noTwin: "{0} 没有 {1} 层", otherShape: "{0} 的 {1} 是 {2}", bothSums: "两个求和", termsDiffer: "两个求和的项不同。",
    differOf: "回答不同：视野内 {1} 个像素的 {0}", differs: "回答不同", agrees: "回答相同",
    weight: "权重", shareHint: "从每个单元走到“数值乘以权重”贡献最大的那一个单元，一直追溯到像素。比例是下一行的单元的贡献占所有同方向贡献（包括偏置）的多少。",
    whyUnit: "单元", whyValue: "值", whyShare: "下一行占",
    evidence: "每个像素的贡献", evidenceHint: "每个像素高出黑色的亮度乘以梯度：与其余部分相加，正好是这个数。",
    againstNext: "与第二名比较", againstNone: "只看这个得分", againstOne: "与 {0} 比较", adds: "贡献",
    leads: "{0} 领先 {1}，相差 {2}", isBehind: "{0} 落后于 {1}，相差 {2}", scoreOf: "{0}：{1}", thirds: "图像九个部分各自的贡献",
    raises: "支持 {0}", lowers: "反对 {0}", mostFor: "支持 {0} 的像素：{1}。", mostLower: "反对 {0} 的像素：{1}。",
    raisesUnit: "提高这个单元的值", lowersUnit: "降低这个单元的值", mostForUnit: "提高它的像素：{1}。", mostLowerUnit: "降低它的像素：{1}。",
    speakFor: "支持 {0}", speakAgainst: "反对 {0}", speakForUnit: "提高这个单元的值", speakAgainstUnit: "降低这个单元的值", outputOf: "输出 {0}",
    pixelsOpposed: "全部像素合起来{0}（{1}）；起决定作用的是其余部分（{3}）：{2}。", restExact: "偏置和空白图像", restCurved: "偏置、空白图像和非线性的影响",
    dimmed: "图像变灰变暗，是为了看清颜色。大小达到 {0} 时颜色最深。", blockAdds: "所在的 {0} 像素块 {1}",
    dimmedBlocks: "图像变灰变暗，是为了看清颜色。每个颜色是 {1} 个像素之和，大小达到 {0} 时最深；放大后可以看到单个像素。",
    pixelsAndRest: "全部像素 {0}，其余 {1}。",
    sharesExact: "精确：在这幅图像附近，网络就是像素的加权和；其余部分来自偏置和空白图像；黑色像素没有贡献。",
    sharesCurved: "梯度乘输入：网络在这里不是像素的加权和，其余部分还包含非线性的影响。",
    sharesUnknown: "梯度乘输入：有一个算子没有二阶导数，不知道其余部分是否只来自偏置。",
    at_top_left: "左上", at_top_middle: "上中", at_top_right: "右上", at_middle_left: "左中", at_middle: "正中", at_middle_right: "右中",
    at_bottom_left: "左下", at_bottom_middle: "下中", at_bottom_right: "右下",
    someRandom: "{1} 个权重中有 {0} 个是随机数：这个网络没有训练过，不要相信它的回答。启动时请给出权重：",
    allRandom: "全部 {1} 个权重都是随机数：这个网络没有训练过，它的回答没有意义。启动时请给出权重：",
    comma: "，", colon: "：",
  },
};

const KINDS = {
  convolution: "卷积", "transposed convolution": "转置卷积", "max pooling": "最大池化", "average pooling": "平均池化",
  linear: "线性层", flatten: "展平", "batch normalization": "批归一化", "group normalization": "组归一化",
  "instance normalization": "实例归一化", "layer normalization": "层归一化", concatenation: "拼接", sum: "相加",
  difference: "相减", product: "相乘", dropout: "随机失活", resize: "缩放", mean: "平均", maximum: "最大值",
  identity: "恒等", attention: "注意力", "pixel shuffle": "像素重排", pad: "填充", neg: "取负",
};

// What the server calls pictures, and what was done to them.
const PHRASES = {
  drawing: "手写", "test pattern": "测试图案", "painted on": "已涂画", "no picture was given": "没有给出图像",
  "nothing but padding and the bias": "只剩填充和偏置", "no input adds in its direction": "没有输入朝这个方向贡献",
};

let language = "en";

/** The languages, each by its own name. */
export const LANGUAGES = { en: "English", zh: "中文" };

/** Choose the first of these that is known. */
export function speak(...names) {
  language = names.map((one) => one.slice(0, 2)).find((one) => WORDS[one]) || "en";
}

export function spoken() {
  return language;
}

/** What a layer does, in the language spoken; names without a translation stay. */
export function kindOf(title) {
  return language === "zh" ? title.split(" + ").map((one) => KINDS[one] || one).join(" + ") : title;
}

/** A server's phrase in the language spoken; names of files stay. */
export function phrase(text) {
  if (language !== "zh") return text;
  const digit = /^a (\d)$/.exec(text);
  return digit ? `数字 ${digit[1]}` : PHRASES[text] ?? text;
}

/** A phrase with its values put in. */
export function say(key, ...values) {
  const text = WORDS[language][key] ?? WORDS.en[key] ?? key;
  return text.replace(/\{(\d)\}/g, (_, number) => values[Number(number)] ?? "");
}
